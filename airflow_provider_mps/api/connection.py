"""Parse an Airflow connection of type ``tencent_mps``, and check each field."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_mps.connection_form import (
    DEFAULT_CONN_ID,
    DEFAULT_HOST,
    DEFAULT_REQUESTS_PER_SECOND,
    DEFAULT_ROLE_SESSION_NAME,
    DEFAULT_TIMEOUT_SECONDS,
)
from airflow_provider_mps.exceptions import InvalidMpsConnectionError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

MAX_TIMEOUT_SECONDS = 3600.0
"""A longer timeout is a mistake, and too long for a socket."""
MAX_PORT = 65535
# Strings, which the re module compiles at their first use.
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = rf"{_LABEL}(\.{_LABEL})*\.?"
_POSSIBLE_KEY = r"(?i)[a-z0-9]{28,}"
"""A host without a dot that is this long is a key in the wrong field."""
_REGION = r"[a-z]+(-[a-z0-9]+)+"
_ROLE_ARN = r"qcs::cam::uin/[0-9]+:role(Name|Id)?/[\w.,=@+-]+"
_CONN_ID = r"[\w#!().\-:/\\]{1,250}"
"""As in Airflow's own ``sanitize_conn_id``."""
_INVALID_IN_URL = r"[\\^`{|}<>\"]|@.*@|\[.*@"
"""Characters that the HTTP libraries parse differently, or not at all."""


@dataclass(frozen=True)
class MpsConnection:
    """A connection to MPS with valid fields; see :meth:`parse`."""

    conn_id: str
    endpoint: str = field(repr=False)
    """Host, with the port if one is set."""
    scheme: str = "https"
    secret_id: str | None = field(default=None, repr=False)
    """``None`` means the SDK's default credential chain."""
    secret_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    region: str = ""
    """Empty: requests name no region."""
    role_arn: str | None = field(default=None, repr=False)
    role_session_name: str = field(default=DEFAULT_ROLE_SESSION_NAME, repr=False)
    requests_per_second: float = DEFAULT_REQUESTS_PER_SECOND
    """Rate limit of each API action in one process."""
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    """Limit of one request, in seconds."""
    proxy: str | None = field(default=None, repr=False)
    cos_endpoint: str | None = field(default=None, repr=False)
    """Server of ``cos://`` paths; ``None`` means the endpoint of the region."""

    @classmethod
    def parse(cls, connection: Connection, extra: object, region: str | None = None) -> MpsConnection:
        """
        Parse and check the fields of an Airflow connection.

        :param extra: the connection's Extra as an object
        :param region: overrides the connection's region
        :raises InvalidMpsConnectionError: names the connection and the field to fix
        """
        fields = _Fields(connection, extra)
        fields.validate_definition()
        secret_id = fields.parse_header_value("Login (SecretId)", connection.login)
        secret_key = fields.parse_header_value("Password (SecretKey)", connection.password)
        token = fields.parse_header_value("Session token", fields.parse_extra_text("token"))
        if secret_id and not secret_key:
            raise fields.make_error("Password (SecretKey)", "is empty, but Login (SecretId) is set")
        if (secret_key or token) and not secret_id:
            raise fields.make_error("Login (SecretId)", "is empty, but Password (SecretKey) or Session token is set")
        scheme, endpoint = fields.parse_endpoint()
        return cls(
            conn_id=connection.conn_id,
            endpoint=endpoint,
            scheme=scheme,
            secret_id=secret_id,
            secret_key=secret_key,
            token=token,
            region=fields.parse_region(region),
            role_arn=fields.parse_extra_text("role_arn"),
            role_session_name=fields.parse_extra_text("role_session_name") or DEFAULT_ROLE_SESSION_NAME,
            requests_per_second=fields.parse_positive_number("requests_per_second") or cls.requests_per_second,
            timeout=fields.parse_positive_number("timeout", MAX_TIMEOUT_SECONDS) or cls.timeout,
            proxy=fields.parse_url("proxy", "http://user:password@host:port"),
            cos_endpoint=fields.parse_cos_endpoint(),
        )

    @property
    def role_for_messages(self) -> str:
        """The role for messages if it has the form of an ARN: otherwise it may be a key."""
        return self.role_arn if self.role_arn and re.fullmatch(_ROLE_ARN, self.role_arn) else "arn"

    @property
    def endpoint_for_messages(self) -> str:
        """The endpoint for messages if it is certainly a host: without a dot it may be a key."""
        is_host = "." in self.endpoint or "[" in self.endpoint or self.endpoint.partition(":")[0] == "localhost"
        return self.endpoint if is_host else "its host"

    @property
    def sts_endpoint(self) -> str:
        """The STS endpoint of the same site; the same server if that is not on Tencent's domain."""
        return f"sts.{self.endpoint.removeprefix('mps.')}" if self.endpoint.startswith("mps.") else self.endpoint


class _Fields:
    """Parses one field at a time; errors name the connection and the field, and quote no value."""

    def __init__(self, connection: Connection, extra: object) -> None:
        self.connection = connection
        if not isinstance(extra, Mapping):
            raise self.make_error("Extra", "must be a JSON object")
        self.extra: Mapping[str, Any] = extra

    def make_error(self, label: str, problem: str) -> InvalidMpsConnectionError:
        return InvalidMpsConnectionError(
            f"Connection '{self.connection.conn_id}': {label} {problem}. Fix it under Admin → Connections, or in your "
            "secrets backend."
        )

    def validate_definition(self) -> None:
        """
        Check that Airflow could parse the connection's URI and Extra.

        A URI's scheme cannot have an underscore: Airflow puts all of ``tencent_mps://ID:KEY@host`` into Schema.
        """
        schema = self.connection.schema
        if getattr(self.connection, "conn_type", None) == "" or (isinstance(schema, str) and "_mps" in schema.lower()):
            raise self.make_error("its URI", "has no scheme: write tencent-mps:// with a hyphen")
        stored = getattr(self.connection, "extra", None)
        if not self.extra and isinstance(stored, str) and stored.strip() and not _is_json(stored):
            raise self.make_error("Extra", "must be a JSON object")  # Airflow treats it as empty

    def parse_header_value(self, label: str, value: object) -> str | None:
        """Parse a value for an HTTP header: ASCII without white space."""
        text = value.strip() if isinstance(value, str) else value
        if text is None or text == "":
            return None
        if not isinstance(text, str) or not re.fullmatch(r"[!-~]+", text):
            raise self.make_error(label, "must consist of ASCII characters, without white space")
        return text

    def parse_text(self, label: str, value: object) -> str:
        if value is not None and not isinstance(value, str):
            raise self.make_error(label, "must be text")
        return (value or "").strip()

    def parse_extra_text(self, name: str) -> str | None:
        return self.parse_text(f"Extra '{name}'", self.extra.get(name)) or None

    def parse_region(self, override: str | None) -> str:
        region = self.parse_header_value("Region", override or self.parse_extra_text("region")) or ""
        if region and not re.fullmatch(_REGION, region):
            raise self.make_error("Region", "must be a region of Tencent Cloud, e.g. ap-singapore")
        return region

    def parse_positive_number(self, name: str, limit: float = 1e6) -> float | None:
        """Parse a number above 0, which forms and URIs pass as text."""
        value = self.extra.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = -1.0
        if isinstance(value, bool) or not 0 < number <= limit:
            raise self.make_error(f"Extra '{name}'", f"must be a number above 0 and at most {limit:g}")
        return number

    def parse_endpoint(self) -> tuple[str, str]:
        """Return the scheme and ``host[:port]``; Host may also contain the scheme and the port."""
        host = self.parse_text("Host", self.connection.host).lower().rstrip("/") or DEFAULT_HOST
        scheme = self.parse_text("Schema", self.connection.schema).lower()
        if "://" in host:
            host_scheme, host = host.split("://", 1)
            if scheme and scheme != host_scheme:
                raise self.make_error("Host (API domain)", "has another scheme than Schema (scheme)")
            scheme = host_scheme
        scheme = scheme or "https"
        if scheme not in {"http", "https"}:
            raise self.make_error("Schema (scheme)", "must be http or https")
        if host.count(":") > 1 and "[" not in host:
            host = f"[{host}]"  # Airflow drops the brackets of an IPv6 address
        name, colon, port = host.rpartition(":")
        if colon and "]" not in port:
            if self.connection.port and str(self.connection.port) != port:
                raise self.make_error("Host (API domain)", "has another port than Port")
            host = name
        else:
            port = str(self.connection.port or "")
        if not _is_host(host):
            raise self.make_error("Host (API domain)", f"must be the domain of the API, e.g. {DEFAULT_HOST}")
        if port and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) <= MAX_PORT):
            raise self.make_error("Port", f"must be from 1 to {MAX_PORT}")
        return scheme, f"{host}:{port}" if port else host

    def parse_cos_endpoint(self) -> str | None:
        endpoint = self.parse_url("cos_endpoint", "https://cos.ap-singapore.myqcloud.com")
        if endpoint and (urlsplit(endpoint).path.strip("/") or "@" in endpoint or "?" in endpoint):
            raise self.make_error("Extra 'cos_endpoint'", "must be a scheme and a host, without path, query or keys")
        return endpoint

    def parse_url(self, name: str, example: str) -> str | None:
        url = self.parse_header_value(f"Extra '{name}'", self.parse_extra_text(name))
        if not url:
            return None
        try:
            parts = urlsplit(url)
            is_valid = parts.scheme in {"http", "https"} and _is_host(parts.hostname or "") and parts.port != 0
        except ValueError:
            is_valid = False
        if not is_valid or re.search(_INVALID_IN_URL, url):
            problem = f"must look like {example}, with special characters in a password percent-encoded"
            raise self.make_error(f"Extra '{name}'", problem)
        return url


def parse_conn_id(mps_conn_id: object) -> str:
    """
    Return a connection id; the default id if a template or a mapping gives none.

    :raises InvalidMpsConnectionError: if it cannot be an id, e.g. because it is a connection's URI
    """
    text = str(mps_conn_id).strip() if isinstance(mps_conn_id, str | int | None) else "?"
    if text in {"", "None"}:  # a template over a missing value renders the text "None"
        return DEFAULT_CONN_ID
    if not re.fullmatch(_CONN_ID, text) or "://" in text:
        raise InvalidMpsConnectionError(
            "mps_conn_id is not a connection id. Use the id under which the connection is defined, not its URI."
        )
    return text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_host(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return re.fullmatch(_HOST_NAME, host) is not None and not re.fullmatch(_POSSIBLE_KEY, host)
    return address.version == 4 or "%" not in host  # noqa: PLR2004 - the IP version
