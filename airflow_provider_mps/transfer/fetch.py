"""Fetch an audio over as many requests as it takes: resumed where it broke off, judged, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fastcrc import crc64
from tenacity import Retrying, retry_if_exception_type, wait_random_exponential

from airflow_provider_mps.errors import AudioTransferError
from airflow_provider_mps.transfer.download import Source, Verdict, judge
from airflow_provider_mps.transfer.link import LinkError, PassingLinkError, make_session, open_link, require_http
from airflow_provider_mps.transfer.parts import MAX_LENGTH
from airflow_provider_mps.transfer.waited_for import waited_for

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests
    from tenacity import RetryCallState

    from airflow_provider_mps.transfer.deadline import Deadline
    from airflow_provider_mps.transfer.link import Opened
    from airflow_provider_mps.transfer.log import Log
    from airflow_provider_mps.transfer.progress import Progress

_CODINGS = {
    *("aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip", "zstd"),
    *("x-compress", "x-gzip"),
}
"""
Content codings, which change the bytes: https://www.iana.org/assignments/http-parameters. Objects are also kept with
other words in this header, such as ``aws-chunked``, ``utf-8`` or ``binary``, which mean nothing for the bytes.
"""
MAX_FRUITLESS_TRIES = 5
"""Tries in a row that bring not one new byte before the transfer is given up."""
MAX_RESTARTS = 4
"""Times that everything received is thrown away before the transfer is given up."""
MAX_TRIES = 50
"""Tries in all, for a server that sends a little each time."""


class Sink(Protocol):
    """Where the bytes go."""

    def begin(self, source: Source) -> None:
        """Prepare for an audio from its start, and forget what was written before."""

    def write(self, block: bytes, /) -> None:
        """Append bytes."""


class Fetch:
    """
    Fetches one audio into a sink.

    :param url: an ``http`` or ``https`` link to it
    :param sink: where the bytes go
    :param fresh_url: asks for a new link, when this one has expired
    :param subject: whose audio it is, for logs and errors
    :param log: where breaks are told
    :param deadline: when everything must be done
    :param progress: told of what arrives
    """

    def __init__(
        self,
        url: str,
        sink: Sink,
        *,
        fresh_url: Callable[[], str],
        subject: str,
        log: Log,
        deadline: Deadline,
        progress: Progress,
    ) -> None:
        self._subject = subject
        self._url = url
        self._sink = sink
        self._fresh_url = fresh_url
        self._log = log
        self._deadline = deadline
        self._progress = progress
        self._fruitless = 0
        self._restarts = 0
        self.source = Source()
        self.received = 0
        """Bytes of the audio that the sink has."""
        self.crc64 = 0
        """CRC-64/XZ of them."""

    def run(self, is_stored: Callable[[Source], bool] = lambda _: False) -> bool:
        """
        Fetch the audio and check it, unless it is stored already.

        :param is_stored: returns whether the audio that a server begins to send is the one at the destination
        :return: whether it was fetched
        :raises AudioTransferError: when it cannot be had whole in several tries
        """
        retrying = Retrying(
            retry=retry_if_exception_type((_TryAgainError, PassingLinkError)),
            stop=self._is_hopeless,
            wait=wait_random_exponential(multiplier=0.5, max=10),
            sleep=self._deadline.sleep,
            before_sleep=self._before_next_try,
            reraise=True,
        )
        try:
            with make_session() as session:
                require_http(self._url)
                fetched: bool = retrying(self._try, session, is_stored)
        except (_TryAgainError, PassingLinkError) as error:
            self._deadline.check()  # where the time is up, that is what ended the last try
            raise self._error(f"{self._how_far()}, and the last try ended with: {error}") from error
        except LinkError as error:
            raise self._error(str(error)) from error
        return fetched

    def _try(self, session: requests.Session, is_stored: Callable[[Source], bool]) -> bool:
        """Fetch what is missing and check the whole; return whether there was anything to do."""
        self._deadline.check()
        before = self.received
        try:
            headers = self.source.range_headers(self.received)
            with open_link(session, self._url, headers, self._deadline.check, self._deadline.left) as answer:
                self._accept(answer)
                if not self.received and is_stored(self.source):
                    return False
                for block in answer.blocks():
                    self._take(block)
        finally:
            self._fruitless = 0 if self.received > before else self._fruitless + 1
        defect = self.source.defect(self.received, self.crc64)
        if defect:
            raise _TryAgainError(defect)
        return True

    def _take(self, block: bytes) -> None:
        self._deadline.check()
        self._sink.write(block)
        self.received += len(block)
        self.crc64 = crc64.xz(block, self.crc64)
        self._progress.tell(self.received, self.source.length)

    def _accept(self, answer: Opened) -> None:
        """Prepare for the body of an answer, or refuse the answer."""
        verdict = judge(answer.status, answer.headers, self.received, self.source)
        if verdict is Verdict.REST:
            return
        if verdict is Verdict.WHOLE:
            if self.received:
                self._log.info("The audio is sent from its start again, because it changed or cannot be resumed")
                self._start_over()
            self.source = Source.from_headers(answer.headers)
            self._require_verifiable(answer)
            self._sink.begin(self.source)
            return
        problem = f"{verdict} (HTTP {answer.status})"
        if verdict is Verdict.REFUSED:
            raise self._error(problem)
        if verdict is Verdict.RANGE_REFUSED:
            self._start_over()
        if verdict is Verdict.LINK_REFUSED:
            self._url = waited_for(self._fresh_url, self._deadline.check)
            require_http(self._url)
            problem += ", so MPS was asked for a fresh one"
        raise _TryAgainError(problem)

    def _require_verifiable(self, answer: Opened) -> None:
        for coding in answer.headers.get("Content-Encoding", "").split(","):
            if coding.strip().lower() in _CODINGS:
                raise self._error(f"it is sent in the encoding {coding.strip()!r}, so it cannot be verified")
        if self.source.length is not None and self.source.length > MAX_LENGTH:
            raise self._error(f"its server announces {self.source.length} bytes, more than any store takes")
        if self.source.content_type == "text/html":
            raise self._error("its server sends a web page instead")
        if not self.source.can_be_checked:
            raise self._error(
                "it is sent with neither a length nor a checksum, so it cannot be told whether it arrived whole"
            )

    def _may_be_beginning(self) -> bool:
        """Tell whether what was received may be the beginning of the audio, so that its rest can be asked for."""
        return self.source.can_resume and self.received < (self.source.length or 0)

    def _is_hopeless(self, state: RetryCallState) -> bool:
        return (
            self._fruitless >= MAX_FRUITLESS_TRIES or self._restarts > MAX_RESTARTS or state.attempt_number >= MAX_TRIES
        )

    def _before_next_try(self, state: RetryCallState) -> None:
        self._deadline.check()
        error = state.outcome.exception() if state.outcome else None
        self._log.warning(
            "Fetching the audio of %s broke off, %s (%s); trying again",
            self._subject,
            self._how_far(),
            error,
        )
        if self.received and not self._may_be_beginning():
            self._start_over()

    def _start_over(self) -> None:
        self._restarts += self.received > 0
        self.received = self.crc64 = 0
        self.source = Source()

    def _how_far(self) -> str:
        return f"{self.received} of {self.source.length or 'an unknown number of'} bytes arrived"

    def _error(self, problem: str) -> AudioTransferError:
        return AudioTransferError(
            f"The audio of {self._subject} could not be fetched: {problem}. Nothing was stored, and what was at its "
            "destination is unchanged."
        )


class _TryAgainError(Exception):
    """A try failed in a way that another may mend."""
