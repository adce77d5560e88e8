"""
Read proxy and certificate settings from the environment, for API calls, audio downloads and COS alike.

The HTTP libraries read these variables differently or not at all, so each gets the values found here.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import ssl
import tempfile
import urllib.request
from contextlib import suppress
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

# The packages, not their modules: threads that import a package and a module of it at the same time fail.
import requests
import urllib3

from airflow_provider_mps.exceptions import InvalidMpsConnectionError

CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables that name trusted certificates; the first one that is set is used."""
TRANSIENT_OS_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""``errno`` of transient errors: the machine lacks resources at the moment."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_PATH_LENGTH = 1000
_CERTIFICATE_FILE_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""Names that ``openssl rehash`` gives to the certificates in a folder."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def find_proxy(url: str, connection_proxy: str | None = None, conn_id: str = "") -> str | None:
    """
    Choose the proxy for a URL.

    :param url: the URL of the request; only scheme, host and port matter
    :param connection_proxy: the connection's ``proxy``, which overrides the environment including ``NO_PROXY``
    :return: the proxy's URL in a form that all libraries parse alike; ``None`` for a direct connection
    :raises InvalidMpsConnectionError: if the proxy setting is invalid; its value is not quoted
    """
    if connection_proxy:
        return _parse_proxy(connection_proxy, f"Connection '{conn_id}': Extra 'proxy'")
    # Checked first: `getproxies_environment` is slow in comparison with a small download.
    if not any(name.lower().endswith(b"_proxy") and name.lower() != b"no_proxy" for name in os.environb):
        return None
    # Lower case overrides upper case; HTTP_PROXY is ignored under CGI (CVE-2016-1000110).
    proxies = urllib.request.getproxies_environment()
    parts = urlsplit(url)
    kind = next((kind for kind in (parts.scheme, "all") if proxies.get(kind, "").strip()), None)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    if kind is None or is_bypassed(parts.hostname or "", port, proxies.get("no", "")):
        return None
    spellings = sorted(name for name in os.environ if name.lower() == f"{kind}_proxy")
    return _parse_proxy(proxies[kind], f"The environment variable {spellings[-1]}")  # lower case if both are set


def is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    """
    Return whether a value of ``NO_PROXY`` exempts a host from the proxy. Names are not resolved.

    :param host: a name, or an IP address without brackets
    :param no_proxy: names (which cover their subdomains, with or without a leading dot), addresses and networks, each
        with or without a port, separated by commas or white space; ``*`` for every host
    """
    host = host.lower().rstrip(".")
    entries = [entry.rstrip(".") for entry in re.split(r"[,\s]+", no_proxy.lower()) if entry.rstrip(".")]
    if "*" in entries:
        return True
    address = None
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
    if address is not None:
        return any(_is_match(entry, address, port) for entry in entries)
    names = ",".join(entry.removeprefix("*") for entry in entries)
    # Undocumented, but requests and botocore use it, too.
    return bool(urllib.request.proxy_bypass_environment(f"{host}:{port}", {"no": names}))  # type: ignore[attr-defined]


def _is_match(entry: str, address: Address, port: int) -> bool:
    with suppress(ValueError):
        return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    entry, _, entry_port = entry.rpartition(":")
    with suppress(ValueError):
        return entry_port == str(port) and address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    return False


def _parse_proxy(value: str, source: str) -> str:
    value = value.strip()
    try:
        url = urllib3.util.parse_url(value if "://" in value else f"http://{value}")
        (url.host or "").strip("[]").encode("idna")  # otherwise the connection attempt would fail with an unclear error
        unquote(url.auth or "").encode("ascii")  # the libraries differ in how they encode other characters
    except (urllib3.exceptions.LocationParseError, UnicodeError):
        url = None
    socks = url is not None and url.scheme in {"socks5", "socks5h"}
    is_origin = url is not None and url.path in {None, "", "/"} and url.query is None and url.fragment is None
    if url is None or not (is_origin and url.host and url.port != 0 and (socks or url.scheme in _DEFAULT_PORTS)):
        raise InvalidMpsConnectionError(
            f"{source} holds no usable proxy. It must look like http://user:password@host:port, with special "
            "characters in the password percent-encoded."
        )
    if socks and not (find_spec("socks") and find_spec("socksio")):
        raise InvalidMpsConnectionError(
            f"{source} names a SOCKS proxy, which needs packages that are not installed. Install them with "
            "pip install 'requests[socks]' 'httpx[socks]', or name an HTTP proxy."
        )
    return url._replace(path=None).url


def find_ca_file(*preferred: str) -> str | None:
    """
    Find the trusted certificates that the environment sets instead of the bundled ones (certifi).

    :param preferred: variables that override :data:`CA_VARIABLES`
    :return: a file in PEM format; the certificates of folders are joined in one, because some libraries read no folders
    :raises InvalidMpsConnectionError: if the variable's path cannot be used; the error names both
    :raises OSError: if the machine lacks resources at the moment
    """
    configured = _load_configured_certificates(preferred)
    return configured[0] if configured else None


def get_tls_context() -> ssl.SSLContext:
    """
    Return a TLS context that trusts the certificates of :func:`find_ca_file`, or else the bundled ones.

    It verifies certificates and host names. The whole process shares it, because loading certificates takes 20 ms. So
    do not change its settings. If the file changes on disk, the next call returns a new context.

    :raises InvalidMpsConnectionError: as :func:`find_ca_file`
    :raises OSError: if the machine lacks resources at the moment
    """
    configured = _load_configured_certificates()
    return configured[1] if configured else _load_certificates(requests.utils.DEFAULT_CA_BUNDLE_PATH)


class SharedTlsAdapter(requests.adapters.HTTPAdapter):
    """
    Connect a ``requests.Session`` with :func:`get_tls_context`; the session's ``verify`` and ``cert`` have no effect.

    Otherwise, requests would load the certificates again for each connection. They are loaded at the first request to
    an ``https`` URL or through an ``https`` proxy.
    """

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Choose the connection pool by host and TLS context."""
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {"ssl_context": get_tls_context()} if host["scheme"] == "https" else {}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Do nothing: this would make each connection of the pool load the certificates."""

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the pool manager for a proxy; if the proxy speaks TLS, it uses the shared context."""
        if proxy.startswith("https:"):
            kwargs["proxy_ssl_context"] = get_tls_context()
        return super().proxy_manager_for(proxy, **kwargs)


def _load_configured_certificates(preferred: tuple[str, ...] = ()) -> tuple[str, ssl.SSLContext] | None:
    """Return the file that the first variable that is set names, and its TLS context; ``None`` if none is set."""
    for variable in (*preferred, *CA_VARIABLES):
        if value := os.environ.get(variable, "").strip():
            folders = None
            try:
                folders = _find_folders(variable, value)
                file = f"/dev/fd/{_join_certificates(folders).fileno()}" if folders else value
                return file, _load_certificates(file)
            except OSError as error:  # including ssl.SSLError
                if error.errno in TRANSIENT_OS_ERRORS and not isinstance(error, ssl.SSLError):
                    raise
                raise _make_ca_error(variable, value, error, in_folder=bool(folders)) from None
    return None


def _load_certificates(file: str) -> ssl.SSLContext:
    status = Path(file).stat()
    return _make_tls_context(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _make_tls_context(file: str, changed_at: int, size: int) -> ssl.SSLContext:
    """Load the certificates of a file, unless this version of it has been loaded before."""
    context = ssl.create_default_context(cafile=file)
    context.hostname_checks_common_name = False  # as urllib3, RFC 9525
    context.set_alpn_protocols(["http/1.1"])
    # httpcore and urllib3 set the same protocols before each connection. A context is thread-safe only if it is not
    # changed after its first use: https://docs.python.org/3/library/ssl.html#ssl.SSLContext
    context.set_alpn_protocols = lambda _: None  # type: ignore[method-assign,assignment]
    return context


def _find_folders(variable: str, value: str) -> tuple[tuple[Path, int], ...]:
    """Return the folders that a variable names, each with the time of its last change in nanoseconds."""
    names = value.split(os.pathsep) if variable == "SSL_CERT_DIR" else [value]
    folders = [Path(name) for name in names if name and Path(name).is_dir()]
    return tuple((folder, folder.stat().st_mtime_ns) for folder in folders)


@cache
def _join_certificates(folders: tuple[tuple[Path, int], ...]) -> IO[bytes]:
    """Join the certificates of folders in an unnamed file, which the kernel deletes with the process."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - kept open by the cache: libraries read it at any time
    for folder, _ in folders:
        for path in sorted(folder.iterdir()):
            if _CERTIFICATE_FILE_NAME.fullmatch(path.name) and path.is_file() and os.access(path, os.R_OK):
                file.write(path.read_bytes() + b"\n")
    file.flush()
    return file


def _make_ca_error(variable: str, value: str, error: OSError, *, in_folder: bool) -> InvalidMpsConnectionError:
    if not isinstance(error, ssl.SSLError):
        problem = error.strerror
    elif in_folder:
        problem = "it holds no certificate that is named by its hash (run openssl rehash)"
    else:
        problem = "it holds no certificate in PEM format"
    # Not quoted if it cannot be a path: the variable may hold a key.
    place = value if value.isprintable() and len(value) <= _MAX_PATH_LENGTH else "a value that is not a path"
    return InvalidMpsConnectionError(
        f"The environment variable {variable} names {place} for trusted certificates, which cannot be used: {problem}. "
        "Nothing was sent. Fix or unset the variable in the environment of Airflow's processes."
    )
