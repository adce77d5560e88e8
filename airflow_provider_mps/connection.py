"""What a connection of type ``tencent_mps`` says, checked field by field."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from airflow_provider_mps.errors import InvalidMpsConnectionError
from airflow_provider_mps.provider_info import (
    DEFAULT_HOST,
    DEFAULT_REQUESTS_PER_SECOND,
    DEFAULT_ROLE_SESSION_NAME,
    DEFAULT_TIMEOUT,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]")


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
    endpoint: str
    """Host, with the port where one is given."""
    scheme: str = "https"
    secret_id: str | None = None
    """``None`` means the SDK's default credential chain."""
    secret_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    region: str = ""
    """Empty where the API shall choose."""
    role_arn: str | None = None
    role_session_name: str = DEFAULT_ROLE_SESSION_NAME
    requests_per_second: float = DEFAULT_REQUESTS_PER_SECOND
    """Budget of each API call."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds for one request."""
    proxy: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, connection: StoredConnection, extra: Mapping[str, Any], region: str | None = None) -> MpsConnection:
        """
        Check the fields of an Airflow connection.

        :param connection: the connection
        :param extra: its Extra, parsed
        :param region: goes before the connection's own
        """
        fields = _Fields(connection, extra)
        secret_id, secret_key = fields.text("login"), fields.text("password")
        if secret_id and not secret_key:
            raise fields.invalid("Password (SecretKey)", "is empty, but Login (SecretId) is set")
        if secret_key and not secret_id:
            raise fields.invalid("Login (SecretId)", "is empty, but Password (SecretKey) is set")
        token = fields.extra_text("token")
        if token and not secret_id:
            raise fields.invalid("Login (SecretId)", "is empty, but Session token is set")
        scheme, endpoint = fields.endpoint()
        return cls(
            conn_id=connection.conn_id,
            endpoint=endpoint,
            scheme=scheme,
            secret_id=secret_id,
            secret_key=secret_key,
            token=token,
            region=region or fields.extra_text("region") or "",
            role_arn=fields.extra_text("role_arn"),
            role_session_name=fields.extra_text("role_session_name") or cls.role_session_name,
            requests_per_second=fields.positive("requests_per_second") or cls.requests_per_second,
            timeout=fields.positive("timeout") or cls.timeout,
            proxy=fields.proxy(),
        )

    @property
    def sts_endpoint(self) -> str:
        """Where roles are assumed: STS of the same site as MPS, or the same server where that is no Tencent domain."""
        return f"sts.{self.endpoint.removeprefix('mps.')}" if self.endpoint.startswith("mps.") else self.endpoint


class _Fields:
    """Reads one field at a time; every complaint names the connection and the field."""

    def __init__(self, connection: StoredConnection, extra: Mapping[str, Any]) -> None:
        self.connection = connection
        self.extra = extra

    def invalid(self, label: str, problem: str) -> InvalidMpsConnectionError:
        return InvalidMpsConnectionError(
            f"Connection '{self.connection.conn_id}': {label} {problem}. Mend it under Admin → Connections, or "
            "wherever this connection is defined."
        )

    def text(self, name: str) -> str | None:
        return (getattr(self.connection, name) or "").strip() or None

    def extra_text(self, name: str) -> str | None:
        value = self.extra.get(name)
        if value is not None and not isinstance(value, str):
            raise self.invalid(f"Extra '{name}'", "must be text")
        return (value or "").strip() or None

    def positive(self, name: str) -> float | None:
        """Read a number above 0; forms and URIs bring it as text."""
        value = self.extra.get(name)
        if value is None or value == "":
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if isinstance(value, bool) or not 0 < number < float("inf"):
            raise self.invalid(f"Extra '{name}'", f"must be a number above 0, not {value!r}")
        return number

    def endpoint(self) -> tuple[str, str]:
        """Return scheme and ``host[:port]``; the host may be given with its scheme in front."""
        host = (self.text("host") or DEFAULT_HOST).lower().rstrip("/")
        scheme = (self.text("schema") or "").lower()
        if "://" in host:
            given, host = host.split("://", 1)
            scheme = scheme or given
        scheme = scheme or "https"
        if scheme not in {"http", "https"}:
            raise self.invalid("Schema", f"must be http or https, not {scheme!r}")
        if host.count(":") > 1 and "[" not in host:
            host = f"[{host}]"  # Airflow drops the brackets of an IPv6 address
        name, colon, port = host.rpartition(":")
        if colon and port.isdigit() and not self.connection.port:
            host = name
        else:
            port = str(self.connection.port or "")
        if not _HOST_NAME.fullmatch(host):
            raise self.invalid("Host", f"must be the domain of the API, e.g. {DEFAULT_HOST}, not {host!r}")
        return scheme, f"{host}:{port}" if port else host

    def proxy(self) -> str | None:
        proxy = self.extra_text("proxy")
        if proxy:
            try:
                parts = urlsplit(proxy)
                usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
            except ValueError:
                usable = False
            if not usable:
                # The value is not quoted: it may hold a password.
                raise self.invalid("Extra 'proxy'", "must look like http://user:password@host:port")
        return proxy
