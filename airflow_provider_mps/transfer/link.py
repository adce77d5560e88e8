"""
Open a link to audio: redirects followed as far as they may lead, errors of the network told from others.

With ``requests``: it reads at once what has arrived, where httpx reads 64 KiB at a time, which takes four times as much
of the CPU that the upload beside it needs.
"""

from __future__ import annotations

import math
import os
import socket
import threading
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3.exceptions

from airflow_provider_mps.network_settings import find_ca_file, find_proxy
from airflow_provider_mps.own_thread import start_daemon_thread
from airflow_provider_mps.transfer.waited_for import waited_for

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

MAX_REDIRECTS = 5
TIMEOUT = (10, 30)
"""Seconds for connecting, and for every wait for more bytes."""
READ_SIZE = 256 * 1024
"""Bytes that are read at once, at most."""

R = TypeVar("R", bound=requests.PreparedRequest)


class LinkError(Exception):
    """The link cannot be opened, now or ever; the message says why."""


class PassingLinkError(LinkError):
    """The network failed; another try may succeed."""


class Opened:
    """
    An answer, of which the body has not been read yet.

    :param response: of ``requests``, made with ``stream=True``
    :param seconds_left: returns how long reading it may take
    """

    def __init__(self, response: requests.Response, seconds_left: Callable[[], float] = lambda: math.inf) -> None:
        self._response = response
        self._seconds_left = seconds_left
        # A chunk's size may arrive byte by byte, and the time-out bounds each wait for a byte only.
        self._may_trickle = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        self._closed: threading.Event | None = None
        """Ends the thread that limits the time."""
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers

    def blocks(self) -> Iterator[bytes]:
        """
        Read the body as it was sent.

        :raises PassingLinkError: where it breaks off, or the time is up
        """
        while True:
            self._limit_time()
            with _telling_errors():
                block: bytes = self._response.raw.read1(READ_SIZE, decode_content=False)
            if not block:
                return
            yield block

    def close(self) -> None:
        """Forget the limit of time; the response is the caller's."""
        if self._closed is not None:
            self._closed.set()

    def _limit_time(self) -> None:
        """Shut the connection down when the time is up, if a read that begins now may outlast it."""
        left = self._seconds_left()
        if self._closed is not None or left == math.inf or (left > TIMEOUT[1] and not self._may_trickle):
            return
        self._closed = closed = threading.Event()
        with suppress(AttributeError, OSError, ValueError):  # the body has ended: there is nothing to wait for
            # Its own descriptor, because the number of a closed one may be another file's.
            connection = socket.socket(fileno=os.dup(self._response.raw.fileno()))

            def shut_down() -> None:
                with connection, suppress(OSError):
                    if not closed.wait(min(max(0.0, left), threading.TIMEOUT_MAX)):
                        connection.shutdown(socket.SHUT_RDWR)

            start_daemon_thread(shut_down, "mps-transfer-timeout")


def require_http(url: str) -> None:
    """
    Return where a link can be opened at all.

    :raises LinkError: where it is no ``http`` or ``https`` link to a host
    """
    try:
        parts = urlsplit(url)
        requests.Request("GET", url).prepare()
    except (ValueError, UnicodeError) as error:  # requests' own are ValueErrors
        raise _unusable(error) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise LinkError(f"it is no http or https link, its scheme is {parts.scheme!r}")


@contextmanager
def open_link(
    session: requests.Session,
    url: str,
    headers: Mapping[str, str],
    still_wanted: Callable[[], None],
    seconds_left: Callable[[], float] = lambda: math.inf,
) -> Iterator[Opened]:
    """
    Open a link while the ``with`` block runs.

    :param session: made by :func:`make_session`
    :param url: an ``http`` or ``https`` link
    :param headers: sent with it, and after redirects
    :param still_wanted: called while waiting for the head of an answer; raises when the time is up
    :param seconds_left: returns how long reading the body may take; it is broken off then
    :raises PassingLinkError: where the network fails
    :raises LinkError: where a redirect leads to anything but the web, or from https to http
    :raises InvalidMpsConnectionError: if the environment's proxy for it is unusable
    """
    scheme = urlsplit(url).scheme
    for _ in range(MAX_REDIRECTS + 1):
        proxy = find_proxy(url)
        proxies = {"http": proxy, "https": proxy} if proxy else None
        get = partial(
            session.get, url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False, proxies=proxies
        )
        with _telling_errors():
            # A time-out bounds each wait for more bytes, and not how long a head that trickles takes.
            response = waited_for(get, still_wanted)
        with response:
            with _telling_errors():
                target = session.get_redirect_target(response)
                elsewhere = None if target is None else urljoin(url, target)
            if elsewhere is None:
                with closing(Opened(response, seconds_left)) as opened:
                    yield opened
                return
        url, before = elsewhere, scheme
        scheme = urlsplit(url).scheme
        if scheme not in {"https", before}:
            raise LinkError(f"its server redirects to a link of the scheme {scheme!r}, not followed")
        require_http(url)
    raise LinkError(f"its server redirects more than {MAX_REDIRECTS} times")


def make_session() -> requests.Session:
    """
    Make a session that opens links; it keeps connections, and trusts the certificates that the environment names.

    :raises InvalidMpsConnectionError: if those are unusable
    """
    session = requests.Session()
    session.trust_env = False  # find_proxy() and find_ca_file() read the environment, with the same rules everywhere
    session.verify = find_ca_file() or True
    session.headers["Accept-Encoding"] = "identity"  # what is checked is what is stored
    session.auth = _no_authorization
    session.resolve_redirects = _no_next_request  # type: ignore[method-assign]
    return session


def _no_next_request(*_: object, **__: object) -> Generator[requests.Response, None, None]:
    """Find no request to follow a redirect with: requests would read all of the redirect's body for it."""
    yield from ()


def _no_authorization(request: R) -> R:
    """Leave a request as it is: without this, a machine's ``.netrc`` would be sent beside the link's signature."""
    return request


@contextmanager
def _telling_errors() -> Iterator[None]:
    """Raise errors of our own in place of others, not even as their cause: those quote the link with its signature."""
    try:
        yield
    except ValueError as error:  # requests' own are among them, and what it raises of a Location
        raise _unusable(error) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise PassingLinkError(_reason(error)) from None


def _unusable(error: Exception) -> LinkError:
    return LinkError(f"it is no link that can be opened ({type(error).__name__})")


def _reason(error: Exception) -> str:
    """Word what is at the bottom of an error of requests, which wraps urllib3's, which wraps the system's."""
    while isinstance(inner := getattr(error, "reason", None) or next(iter(error.args), None), Exception):
        error = inner
    text = str(error)
    return f"{type(error).__name__}: {text.partition('): ')[2] or text}".partition("?")[0]
