"""What a connection of type ``tencent_mps`` says, checked field by field."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_provider_mps.connection_form import (
    DEFAULT_CONN_ID,
    DEFAULT_HOST,
    DEFAULT_REQUESTS_PER_SECOND,
    DEFAULT_ROLE_SESSION_NAME,
    DEFAULT_TIMEOUT,
)
from airflow_provider_mps.errors import InvalidMpsConnectionError

MAX_TIMEOUT = 3600.0
"""Seconds; what is longer is a slip, and too long for a socket."""
MAX_PORT = 65535
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_LIKE_A_KEY = re.compile(r"[a-z0-9]{28,}", re.IGNORECASE)
"""A host without a dot that is this long is a key in the wrong field."""
_REGION = re.compile(r"[a-z]+(-[a-z0-9]+)+")
_ROLE_ARN = re.compile(r"qcs::cam::uin/[0-9]+:role(Name|Id)?/[\w.,=@+-]+")
_CONN_ID = re.compile(r"[\w#!().\-:/\\]{1,250}")
"""As Airflow's own ``sanitize_conn_id``."""
_NOT_IN_URL = re.compile(r"[\\^`{|}<>\"]|@.*@|\[.*@")
"""What the HTTP libraries read in different ways, or not at all."""


class StoredConnection(Protocol):
    """The fields of Airflow's ``Connection`` that are read; a form leaves ``""`` or ``None`` where it is empty."""

    conn_id: str
    login: str | None
    password: str | None
    host: str | None
    port: int | None
    schema: str | None


@dataclass(frozen=True)
class MpsConnection:
    """
    A checked connection to MPS.

    :raises InvalidMpsConnectionError: from :meth:`parse`, naming the connection and the field to mend
    """

    conn_id: str
    endpoint: str = field(repr=False)
    """Host, with the port where one is given."""
    scheme: str = "https"
    secret_id: str | None = field(default=None, repr=False)
    """``None`` means the SDK's default credential chain."""
    secret_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    region: str = ""
    """Empty where the API shall choose."""
    role_arn: str | None = field(default=None, repr=False)
    role_session_name: str = field(default=DEFAULT_ROLE_SESSION_NAME, repr=False)
    requests_per_second: float = DEFAULT_REQUESTS_PER_SECOND
    """Budget of each API call."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds for one request."""
    proxy: str | None = field(default=None, repr=False)
    cos_endpoint: str | None = field(default=None, repr=False)
    """Where ``cos://`` paths lead; ``None`` means the region's own."""

    @classmethod
    def parse(cls, connection: StoredConnection, extra: object, region: str | None = None) -> MpsConnection:
        """
        Check the fields of an Airflow connection.

        :param connection: the connection
        :param extra: its Extra, parsed
        :param region: goes before the connection's own
        """
        fields = _Fields(connection, extra)
        fields.require_readable_uri()
        secret_id = fields.sendable("Login (SecretId)", connection.login)
        secret_key = fields.sendable("Password (SecretKey)", connection.password)
        token = fields.sendable("Session token", fields.extra_text("token"))
        if secret_id and not secret_key:
            raise fields.invalid("Password (SecretKey)", "is empty, but Login (SecretId) is set")
        if (secret_key or token) and not secret_id:
            raise fields.invalid("Login (SecretId)", "is empty, but Password (SecretKey) or Session token is set")
        scheme, endpoint = fields.endpoint()
        return cls(
            conn_id=connection.conn_id,
            endpoint=endpoint,
            scheme=scheme,
            secret_id=secret_id,
            secret_key=secret_key,
            token=token,
            region=fields.region(region),
            role_arn=fields.extra_text("role_arn"),
            role_session_name=fields.extra_text("role_session_name") or DEFAULT_ROLE_SESSION_NAME,
            requests_per_second=fields.positive("requests_per_second") or cls.requests_per_second,
            timeout=fields.positive("timeout", MAX_TIMEOUT) or cls.timeout,
            proxy=fields.proxy(),
            cos_endpoint=fields.cos_endpoint(),
        )

    @property
    def shown_role(self) -> str:
        """The role for messages, where it is the ARN of one: anything else may be a key."""
        return self.role_arn if self.role_arn and _ROLE_ARN.fullmatch(self.role_arn) else "arn"

    @property
    def shown_endpoint(self) -> str:
        """The endpoint for messages, where its host can be nothing but one: without a dot it may be a key."""
        is_known = "." in self.endpoint or "[" in self.endpoint or self.endpoint.partition(":")[0] == "localhost"
        return self.endpoint if is_known else "its host"

    @property
    def sts_endpoint(self) -> str:
        """Where roles are assumed: STS of the same site as MPS, or the same server where that is no Tencent domain."""
        return f"sts.{self.endpoint.removeprefix('mps.')}" if self.endpoint.startswith("mps.") else self.endpoint


class _Fields:
    """Reads one field at a time; every complaint names the connection and the field, and quotes nothing secret."""

    def __init__(self, connection: StoredConnection, extra: object) -> None:
        self.connection = connection
        if not isinstance(extra, Mapping):
            raise self.invalid("Extra", "must be a JSON object")
        self.extra: Mapping[str, Any] = extra

    def require_readable_uri(self) -> None:
        """
        Return where Airflow could read what the connection was defined by.

        An underscore is no character of a URI's scheme: Airflow puts all of ``tencent_mps://ID:KEY@host`` into Schema.
        """
        schema = self.connection.schema
        if getattr(self.connection, "conn_type", None) == "" or (isinstance(schema, str) and "_mps" in schema.lower()):
            raise self.invalid("its URI", "begins with no scheme: write tencent-mps:// with a hyphen")
        written = getattr(self.connection, "extra", None)
        if not self.extra and isinstance(written, str) and written.strip() and not _is_json(written):
            raise self.invalid("Extra", "must be a JSON object")  # Airflow takes it for an empty one

    def invalid(self, label: str, problem: str) -> InvalidMpsConnectionError:
        return InvalidMpsConnectionError(
            f"Connection '{self.connection.conn_id}': {label} {problem}. Mend it under Admin → Connections, or "
            "wherever this connection is defined."
        )

    def sendable(self, label: str, value: object) -> str | None:
        """Return what will go into an HTTP header: ASCII without white space."""
        text = value.strip() if isinstance(value, str) else value
        if text is None or text == "":
            return None
        if not isinstance(text, str) or not re.fullmatch(r"[!-~]+", text):
            raise self.invalid(label, "may hold nothing but ASCII letters, digits and signs, without white space")
        return text

    def region(self, argument: str | None) -> str:
        """Return the region that an argument names, or the connection's own."""
        region = self.sendable("Region", argument or self.extra_text("region")) or ""
        if region and not _REGION.fullmatch(region):
            raise self.invalid("Region", "must be one of Tencent's, e.g. ap-singapore")
        return region

    def text(self, label: str, value: object) -> str:
        if value is not None and not isinstance(value, str):
            raise self.invalid(label, "must be text")
        return (value or "").strip()

    def extra_text(self, name: str) -> str | None:
        value = self.extra.get(name)
        if value is not None and not isinstance(value, str):
            raise self.invalid(f"Extra '{name}'", "must be text")
        return (value or "").strip() or None

    def positive(self, name: str, limit: float = 1e6) -> float | None:
        """Read a number above 0; forms and URIs bring it as text."""
        value = self.extra.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = -1.0
        if isinstance(value, bool) or not 0 < number <= limit:
            raise self.invalid(f"Extra '{name}'", f"must be a number above 0 and at most {limit:g}")
        return number

    def endpoint(self) -> tuple[str, str]:
        """Return scheme and ``host[:port]``; the host may be given with its scheme in front and its port behind."""
        host = self.text("Host", self.connection.host).lower().rstrip("/") or DEFAULT_HOST
        scheme = self.text("Schema", self.connection.schema).lower()
        if "://" in host:
            given, host = host.split("://", 1)
            if scheme and scheme != given:
                raise self.invalid("Host", "begins with another scheme than Schema has")
            scheme = given
        scheme = scheme or "https"
        if scheme not in {"http", "https"}:
            raise self.invalid("Schema", "must be http or https")
        if host.count(":") > 1 and "[" not in host:
            host = f"[{host}]"  # Airflow drops the brackets of an IPv6 address
        name, colon, port = host.rpartition(":")
        if colon and "]" not in port:
            if self.connection.port and str(self.connection.port) != port:
                raise self.invalid("Host", "ends in another port than Port has")
            host = name
        else:
            port = str(self.connection.port or "")
        if not _is_host(host):
            raise self.invalid("Host", f"must be the domain of the API, e.g. {DEFAULT_HOST}")
        if port and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) <= MAX_PORT):
            raise self.invalid("Port", f"must be from 1 to {MAX_PORT}")
        return scheme, f"{host}:{port}" if port else host

    def proxy(self) -> str | None:
        return self._url("proxy", "http://user:password@host:port")

    def cos_endpoint(self) -> str | None:
        endpoint = self._url("cos_endpoint", "https://cos.ap-singapore.myqcloud.com")
        if endpoint and (urlsplit(endpoint).path.strip("/") or "@" in endpoint or "?" in endpoint):
            raise self.invalid("Extra 'cos_endpoint'", "must be a scheme and a host, without a path, a query or keys")
        return endpoint

    def _url(self, name: str, example: str) -> str | None:
        url = self.sendable(f"Extra '{name}'", self.extra_text(name))
        if url:
            try:
                parts = urlsplit(url)
                usable = parts.scheme in {"http", "https"} and _is_host(parts.hostname or "") and parts.port != 0
            except ValueError:
                usable = False
            if not usable or _NOT_IN_URL.search(url):
                raise self.invalid(
                    f"Extra '{name}'", f"must look like {example}, with what is special in a password percent-encoded"
                )
        return url


def require_conn_id(mps_conn_id: object) -> str:
    """
    Return the id of a connection; the default one where a template or a mapping gives none.

    :raises InvalidMpsConnectionError: when it can be no id, such as a connection's URI
    """
    text = str(mps_conn_id).strip() if isinstance(mps_conn_id, str | int | None) else "?"
    if text in {"", "None"}:  # a template over nothing renders the text "None"
        return DEFAULT_CONN_ID
    if not _CONN_ID.fullmatch(text) or "://" in text:
        raise InvalidMpsConnectionError(
            "mps_conn_id is no id of a connection. Give the id under which the connection is defined, not its URI."
        )
    return text


def _is_json(written: str) -> bool:
    try:
        json.loads(written)
    except (ValueError, RecursionError):
        return False
    return True


def _is_host(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return _HOST_NAME.fullmatch(host) is not None and not _LIKE_A_KEY.fullmatch(host)
    return address.version == 4 or "%" not in host  # noqa: PLR2004 - the IP version
