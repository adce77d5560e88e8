"""
Open an audio URL over HTTP: follow safe redirects, and separate transient from permanent errors.

Connections are kept open for later downloads of this process. This module uses ``urllib3``, whose ``read1`` returns
whatever has arrived; ``requests`` and ``httpx`` take more CPU time for each request.
"""

from __future__ import annotations

import http.client
import os
import queue
from collections import deque
from contextlib import closing, contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

import urllib3

from airflow_provider_mps.api.network_settings import find_proxy, get_tls_context
from airflow_provider_mps.storage.watchdog import WatchedConnection, watching

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_mps.storage.watchdog import Watch

MAX_REDIRECTS = 5
TIMEOUT_SECONDS = (10, 30)
"""Seconds to connect, and seconds without a new byte."""
MAX_READ_BYTES = 256 * 1024
MIN_BLOCK_BYTES = 64 * 1024
"""Smaller pieces are joined, because each block takes some time."""
MAX_KEPT_CONNECTIONS = 16
"""Connections to one server that are kept open; a batch uses eight at once."""


class UrlError(Exception):
    """The URL cannot be opened. Its message quotes no signature."""


class TransientUrlError(UrlError):
    """The network failed; a retry may succeed."""


class OpenResponse:
    """A response whose body has not been read yet."""

    def __init__(self, response: urllib3.BaseHTTPResponse, check: Callable[[], None]) -> None:
        self._response = response
        self._check = check
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    def read_blocks(self) -> Iterator[bytes]:
        """
        Yield the body as it was sent, without decoding, also what arrived before an error.

        :raises TransientUrlError: if the connection breaks
        """
        pieces: list[bytes] = []  # of TLS, which has 16 KiB each
        size = 0
        try:
            with _translate_http_errors(self._check):
                while piece := self._response.read1(MAX_READ_BYTES, decode_content=False):
                    pieces.append(piece)
                    size += len(piece)
                    if size >= MIN_BLOCK_BYTES:
                        yield b"".join(pieces)
                        pieces, size = [], 0
        except TransientUrlError:
            if pieces:
                yield b"".join(pieces)
            raise
        if pieces:
            yield b"".join(pieces)


def validate_http_url(url: str) -> None:
    """
    Check that a URL can be requested.

    :raises UrlError: if it is not an ``http`` or ``https`` URL with a host
    """
    try:
        parts = urllib3.util.parse_url(url)
        hostname = urlsplit(url).hostname
        (hostname or "").encode("idna")
    except ValueError as error:  # includes the errors of urllib3, and UnicodeError
        raise _make_invalid_url_error(error) from None
    if parts.scheme not in {"http", "https"} or not parts.host or not hostname:
        raise UrlError(f"it is not an http or https URL with a host, its scheme is {urlsplit(url).scheme!r}")


@contextmanager
def open_url(url: str, headers: Mapping[str, str], check: Callable[[], None]) -> Iterator[OpenResponse]:
    """
    Request a URL, follow redirects, and keep the response open for the ``with`` block.

    :param headers: of the request, also after redirects
    :param check: called while waiting; raises when the download must not continue, which also ends reading the body
    :raises TransientUrlError: if the network fails
    :raises UrlError: if a URL is invalid, a redirect leads from https to http or another scheme, or there are too many
    :raises InvalidMpsConnectionError: if the proxy or the certificates that the environment names are unusable
    """
    scheme = urlsplit(url).scheme
    with watching(check) as watch:
        for _ in range(MAX_REDIRECTS + 1):
            with closing(_send_request(url, headers, watch)) as response:
                with _translate_http_errors(check):
                    location = response.get_redirect_location()
                    redirect_url = urljoin(url, location) if location else None
                if redirect_url is None:
                    yield OpenResponse(response, check)
                    return
            url, previous_scheme = redirect_url, scheme
            scheme = urlsplit(url).scheme
            if scheme not in {"https", previous_scheme}:
                raise UrlError(f"its server redirects to a URL with the scheme {scheme!r}, which is not followed")
            validate_http_url(url)
    raise UrlError(f"its server redirects more than {MAX_REDIRECTS} times")


def _send_request(url: str, headers: Mapping[str, str], watch: Watch) -> urllib3.BaseHTTPResponse:
    connect_seconds, read_seconds = TIMEOUT_SECONDS
    with _translate_http_errors(watch.check):
        send = partial(
            _get_pool_manager(url).request,
            "GET",
            url,
            headers={**headers, "Accept-Encoding": "identity"},  # verify and store the same bytes
            timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
            preload_content=False,
            redirect=False,
            retries=False,
        )
        try:
            return send()
        except urllib3.exceptions.ProtocolError:
            if not watch.reuses_connection:
                raise
        # The server has closed the kept connection, perhaps while the request was sent.
        return send()


def _get_pool_manager(url: str) -> urllib3.PoolManager:
    """
    Return the pool manager for a URL: one for each proxy and set of certificates that the environment names.

    :raises InvalidMpsConnectionError: if those are unusable
    """
    proxy = find_proxy(url)
    needs_tls = "https" in {urlsplit(url).scheme, urlsplit(proxy or "").scheme}
    return _make_pool_manager(proxy, get_tls_context() if needs_tls else None)


@lru_cache(maxsize=8)
def _make_pool_manager(proxy: str | None, tls_context: ssl.SSLContext | None) -> urllib3.PoolManager:
    settings: dict[str, Any] = {"maxsize": MAX_KEPT_CONNECTIONS, "ssl_context": tls_context}
    if proxy is None:
        manager = urllib3.PoolManager(**settings)
    elif proxy.startswith("socks"):
        from urllib3.contrib.socks import SOCKSProxyManager

        manager = SOCKSProxyManager(proxy, **settings)
    else:
        user = unquote(urllib3.util.parse_url(proxy).auth or "")
        proxy_headers = urllib3.util.make_headers(proxy_basic_auth=user) if user else None
        manager = urllib3.ProxyManager(proxy, proxy_headers=proxy_headers, proxy_ssl_context=tls_context, **settings)
    manager.pool_classes_by_scheme = {
        scheme: _make_watched(pool_class) for scheme, pool_class in manager.pool_classes_by_scheme.items()
    }
    return manager


def _make_watched(pool_class: Any) -> Any:
    """Return a pool class whose connections are shut down when their download must not continue."""
    connection_class = type("Connection", (WatchedConnection, pool_class.ConnectionCls), {})
    return type("ConnectionPool", (pool_class,), {"ConnectionCls": connection_class, "QueueCls": _ConnectionQueue})


class _ConnectionQueue:
    """
    The queue of a pool: last in, first out, and without a lock.

    A signal handler that raises in the methods of ``queue.LifoQueue`` could leave its lock held for good.
    """

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._items: deque[Any] = deque()

    def put(self, item: Any, block: bool = True) -> None:  # noqa: FBT001, FBT002 - as in the queue module
        if len(self._items) >= self._maxsize:
            raise queue.Full
        self._items.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        try:
            return self._items.pop()
        except IndexError:
            raise queue.Empty from None

    def qsize(self) -> int:
        return len(self._items)


# A forked process must not use the connections of its parent.
os.register_at_fork(after_in_child=_make_pool_manager.cache_clear)


@contextmanager
def _translate_http_errors(check: Callable[[], None]) -> Iterator[None]:
    """
    Raise errors that quote no signed URL, not even in their cause.

    :param check: raises its own error if that is why the connection was shut down
    """
    try:
        yield
    except ValueError as error:  # includes errors of urllib3, and those of an invalid Location header
        raise _make_invalid_url_error(error) from None
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        try:
            check()
        except BaseException as reason:
            raise reason from None
        raise TransientUrlError(_format_root_cause(error)) from None


def _make_invalid_url_error(error: Exception) -> UrlError:
    return UrlError(f"it is not a valid URL ({type(error).__name__})")


def _format_root_cause(error: Exception) -> str:
    """Return the message of the system's error, which urllib3 has wrapped."""
    while isinstance(inner := getattr(error, "reason", None) or next(iter(error.args), None), Exception):
        error = inner
    text = str(error)
    return f"{type(error).__name__}: {text.partition('): ')[2] or text}".partition("?")[0]
