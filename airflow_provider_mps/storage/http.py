"""
Open an audio URL over HTTP: follow safe redirects, and separate transient from permanent errors.

It uses ``requests``: ``read1`` of its raw response returns whatever has arrived. httpx reads 64 KiB at a time and takes
four times the CPU time, which the concurrent upload needs.
"""

from __future__ import annotations

import math
import os
import socket
import threading
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import requests
import urllib3.exceptions

from airflow_provider_mps.api.network_settings import find_ca_file, find_proxy
from airflow_provider_mps.concurrency import call_interruptibly, start_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MAX_REDIRECTS = 5
TIMEOUT_SECONDS = (10, 30)
"""Seconds to connect, and seconds without a new byte."""
MAX_READ_BYTES = 256 * 1024


class UrlError(Exception):
    """The URL cannot be opened. Its message quotes no signature."""


class TransientUrlError(UrlError):
    """The network failed; a retry may succeed."""


class OpenResponse:
    """A response whose body has not been read yet; for the arguments, see :func:`open_url`."""

    def __init__(self, response: requests.Response, get_seconds_left: Callable[[], float]) -> None:
        self._response = response
        self._get_seconds_left = get_seconds_left
        # The size of a chunk may arrive byte by byte, while the read timeout limits the wait for each byte only.
        self._is_chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        self._closed: threading.Event | None = None
        """Ends the thread that limits the time."""
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers

    def read_blocks(self) -> Iterator[bytes]:
        """
        Yield the body as it was sent, without decoding.

        :raises TransientUrlError: if the connection breaks or the time is up
        """
        while True:
            self._limit_time()
            with _translate_http_errors():
                block: bytes = self._response.raw.read1(MAX_READ_BYTES, decode_content=False)
            if not block:
                return
            yield block

    def close(self) -> None:
        """End the time limit; the caller closes the response."""
        if self._closed is not None:
            self._closed.set()

    def _limit_time(self) -> None:
        """Start a thread that shuts the connection down at the deadline, if the next read may outlast it."""
        seconds_left = self._get_seconds_left()
        is_bounded = seconds_left == math.inf or (seconds_left > TIMEOUT_SECONDS[1] and not self._is_chunked)
        if self._closed is not None or is_bounded:
            return
        self._closed = closed = threading.Event()
        with suppress(AttributeError, OSError, ValueError):  # at the end of the body, there is no connection
            # A duplicate, because the number of a closed descriptor may be reused for another file.
            connection = socket.socket(fileno=os.dup(self._response.raw.fileno()))

            def shut_down() -> None:
                with connection, suppress(OSError):
                    if not closed.wait(min(max(0.0, seconds_left), threading.TIMEOUT_MAX)):
                        connection.shutdown(socket.SHUT_RDWR)

            start_daemon_thread(shut_down, "mps-transfer-timeout")


def validate_http_url(url: str) -> None:
    """
    Check that a URL can be requested.

    :raises UrlError: if it is not an ``http`` or ``https`` URL with a host
    """
    try:
        parts = urlsplit(url)
        requests.Request("GET", url).prepare()
    except (ValueError, UnicodeError) as error:  # includes the errors of requests
        raise _make_invalid_url_error(error) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UrlError(f"it is not an http or https URL with a host, its scheme is {parts.scheme!r}")


@contextmanager
def open_url(
    session: requests.Session,
    url: str,
    headers: Mapping[str, str],
    raise_if_cancelled: Callable[[], None],
    get_seconds_left: Callable[[], float] = lambda: math.inf,
) -> Iterator[OpenResponse]:
    """
    Request a URL, follow redirects, and keep the response open for the ``with`` block.

    :param session: made by :func:`make_session`
    :param headers: of the request, also after redirects
    :param raise_if_cancelled: called while waiting for the response headers
    :param get_seconds_left: returns how long reading the body may take; the connection is shut down after that
    :raises TransientUrlError: if the network fails
    :raises UrlError: if a URL is invalid, a redirect leads from https to http or another scheme, or there are too many
    :raises InvalidMpsConnectionError: if the proxy from the environment is unusable
    """
    scheme = urlsplit(url).scheme
    for _ in range(MAX_REDIRECTS + 1):
        proxy = find_proxy(url)
        proxies = {"http": proxy, "https": proxy} if proxy else None
        send_request = partial(
            session.get, url, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False, proxies=proxies
        )
        with _translate_http_errors():
            # The timeout limits the wait for each byte, but not how long headers may trickle.
            response = call_interruptibly(send_request, raise_if_cancelled)
        with response:
            with _translate_http_errors():
                location = session.get_redirect_target(response)
                redirect_url = None if location is None else urljoin(url, location)
            if redirect_url is None:
                with closing(OpenResponse(response, get_seconds_left)) as opened:
                    yield opened
                return
        url, previous_scheme = redirect_url, scheme
        scheme = urlsplit(url).scheme
        if scheme not in {"https", previous_scheme}:
            raise UrlError(f"its server redirects to a URL with the scheme {scheme!r}, which is not followed")
        validate_http_url(url)
    raise UrlError(f"its server redirects more than {MAX_REDIRECTS} times")


def make_session() -> requests.Session:
    """
    Return a session that keeps connections open and trusts the certificates that the environment names.

    :raises InvalidMpsConnectionError: if those certificates are unusable
    """
    session = requests.Session()
    session.stream = True
    session.trust_env = False  # find_proxy() and find_ca_file() read the environment, with the same rules everywhere
    session.verify = find_ca_file() or True
    session.headers["Accept-Encoding"] = "identity"  # verify and store the same bytes
    session.auth = lambda request: request  # or requests sends a user and password in the URL as Authorization
    # Also without redirects, requests would read a redirect's whole body to find the next request.
    session.resolve_redirects = lambda *_, **__: iter(())  # type: ignore[method-assign,assignment]
    return session


@contextmanager
def _translate_http_errors() -> Iterator[None]:
    """Raise errors that quote no signed URL, not even in their cause."""
    try:
        yield
    except ValueError as error:  # includes errors of requests, and those of an invalid Location header
        raise _make_invalid_url_error(error) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise TransientUrlError(_format_root_cause(error)) from None


def _make_invalid_url_error(error: Exception) -> UrlError:
    return UrlError(f"it is not a valid URL ({type(error).__name__})")


def _format_root_cause(error: Exception) -> str:
    """Return the message of the system's error, which urllib3 and then requests have wrapped."""
    while isinstance(inner := getattr(error, "reason", None) or next(iter(error.args), None), Exception):
        error = inner
    text = str(error)
    return f"{type(error).__name__}: {text.partition('): ')[2] or text}".partition("?")[0]
