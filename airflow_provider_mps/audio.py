"""Move the audio from its link to object storage: resumed where it broke off, committed only when verified."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import httpx
from fastcrc import crc64
from tenacity import Retrying, retry_if_exception_type, wait_random_exponential

from airflow_provider_mps.destination import existing_size, explaining
from airflow_provider_mps.download import Source, Verdict, judge
from airflow_provider_mps.errors import AudioTransferError, DestinationError, InvalidRequestError
from airflow_provider_mps.redaction import keep_links_out_of_logs
from airflow_provider_mps.uncommitted import open_uncommitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from tenacity import RetryCallState

    from airflow_provider_mps.uncommitted import UncommittedFile

MAX_FRUITLESS_TRIES = 5
"""Tries in a row that bring not one new byte before the transfer is given up."""
MAX_RESTARTS = 4
"""Times that everything received is thrown away before the transfer is given up."""
MAX_TRIES = 50
"""Tries in all, for a server that sends a little each time."""
TIMEOUT = httpx.Timeout(10, read=30)
"""Seconds for connecting, and for every wait for more bytes."""


class Log(Protocol):
    """What is asked of a log: Airflow's own is no ``logging.Logger``."""

    def info(self, message: str, /, *args: Any) -> Any:
        """Log a step."""

    def warning(self, message: str, /, *args: Any) -> Any:
        """Log what went wrong and is being mended."""


class IfExists(StrEnum):
    """What to do where something is at the destination already."""

    OVERWRITE = "overwrite"
    SKIP = "skip"
    FAIL = "fail"

    @classmethod
    def parse(cls, value: str) -> IfExists:
        """
        Return the member for an argument.

        :raises InvalidRequestError: when there is none
        """
        try:
            return cls(value)
        except ValueError as error:
            raise InvalidRequestError(f"if_exists must be one of {', '.join(cls)}, not {value!r}.") from error


def store_audio(
    url: str,
    path: ObjectStoragePath,
    *,
    fresh_url: Callable[[], str],
    subject: str,
    log: Log,
    if_exists: IfExists = IfExists.OVERWRITE,
) -> None:
    """
    Store what is at ``url`` at ``path``; nothing that is not verified ever appears there.

    :param url: an ``http`` or ``https`` link to the audio
    :param path: the file to write
    :param fresh_url: asks for a new link, when this one has expired
    :param subject: whose audio it is, for logs and errors
    :param log: where the story of the transfer is told, e.g. an operator's own log
    :param if_exists: what to do where a file is there already
    :raises AudioTransferError: when the audio could not be fetched or verified in several tries
    :raises DestinationError: when the destination must be mended first
    """
    must_be_new = if_exists is IfExists.FAIL
    if must_be_new:
        _require_absent(path)
    skip_length = existing_size(path) if if_exists is IfExists.SKIP else None
    keep_links_out_of_logs()
    with (
        httpx.Client(timeout=TIMEOUT, follow_redirects=True, headers={"Accept-Encoding": "identity"}) as client,
        _Transfer(client, url, path, fresh_url=fresh_url, subject=subject, log=log) as transfer,
    ):
        transfer.run(skip_length, must_be_new=must_be_new)


class _TryAgainError(Exception):
    """A try failed in a way that another may mend."""


class _Transfer:
    """One download into one uncommitted file, over as many requests as it takes."""

    def __init__(
        self,
        client: httpx.Client,
        url: str,
        path: ObjectStoragePath,
        *,
        fresh_url: Callable[[], str],
        subject: str,
        log: Log,
    ) -> None:
        self._client = client
        self._url = _require_http(url, subject)
        self._path = path
        self._fresh_url = fresh_url
        self._subject = subject
        self._log = log
        self._file: UncommittedFile | None = None
        self._source = Source()
        self._received = 0
        self._crc = 0
        self._fruitless = 0
        self._restarts = 0

    def __enter__(self) -> _Transfer:
        return self

    def __exit__(self, *_: object) -> None:
        self._discard()

    def run(self, skip_length: int | None, *, must_be_new: bool) -> None:
        """Download, verify and commit; or do nothing, where the audio has just ``skip_length`` bytes."""
        try:
            fetched = Retrying(
                retry=retry_if_exception_type((_TryAgainError, httpx.TransportError)),
                stop=self._is_hopeless,
                wait=wait_random_exponential(multiplier=0.5, max=10),
                before_sleep=self._before_next_try,
                reraise=True,
            )(self._fetch, skip_length)
        except (_TryAgainError, httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise AudioTransferError(
                f"The audio of {self._subject} could not be fetched: {self._progress()}, and the last try ended with: "
                f"{_describe(error)}. {self._path} was left as it was."
            ) from error
        if not fetched:
            self._log.info("%s has the audio's %s bytes already: nothing was moved", self._path, skip_length)
            return
        if must_be_new:
            _require_absent(self._path)
        with explaining(self._path):
            self._writable().commit()
        self._file = None
        self._log.info(
            "Stored the audio of %s at %s: %s bytes, CRC-64 %s, checked by %s",
            self._subject,
            self._path,
            self._received,
            self._crc,
            self._source.checks,
        )

    def _fetch(self, skip_length: int | None) -> bool:
        """Fetch what is missing and verify the whole; return whether there was anything to do."""
        before = self._received
        try:
            with self._client.stream("GET", self._url, headers=self._source.range_headers(self._received)) as response:
                self._accept(response)
                if skip_length is not None and skip_length == self._source.length:
                    return False
                for block in response.iter_raw():
                    with explaining(self._path):
                        self._writable().write(block)
                    self._received += len(block)
                    self._crc = crc64.xz(block, self._crc)
        finally:
            self._fruitless = 0 if self._received > before else self._fruitless + 1
        defect = self._source.defect(self._received, self._crc)
        if defect:
            raise _TryAgainError(defect)
        return True

    def _accept(self, response: httpx.Response) -> None:
        """Prepare for the body of an answer, or refuse the answer."""
        verdict = judge(response.status_code, response.headers, self._received, self._source)
        if verdict is Verdict.REST:
            return
        if verdict is Verdict.WHOLE:
            if self._received:
                self._log.info("The audio is sent from its start again, because it changed or cannot be resumed")
                self._start_over()
            self._source = Source.from_headers(response.headers)
            self._require_verifiable(response)
            return
        problem = f"{verdict} (HTTP {response.status_code})"
        if verdict is Verdict.REFUSED:
            raise AudioTransferError(f"The audio of {self._subject} could not be fetched: {problem}.")
        if verdict is Verdict.RANGE_REFUSED:
            self._start_over()
        if verdict is Verdict.LINK_REFUSED:
            self._url = _require_http(self._fresh_url(), self._subject)
            problem += ", so MPS was asked for a fresh one"
        raise _TryAgainError(problem)

    def _require_verifiable(self, response: httpx.Response) -> None:
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in {"", "identity"}:
            raise AudioTransferError(
                f"The audio of {self._subject} is sent in the encoding {encoding!r}, so it cannot be verified."
            )
        if not self._source.can_be_checked:
            raise AudioTransferError(
                f"The audio of {self._subject} is sent with neither a length nor a checksum, so it cannot be told "
                "whether it arrived whole. It was not stored."
            )

    def _may_be_beginning(self) -> bool:
        """Tell whether what was received may be the beginning of the audio, so that its rest can be asked for."""
        return self._source.can_resume and self._received < (self._source.length or 0)

    def _is_hopeless(self, state: RetryCallState) -> bool:
        return (
            self._fruitless >= MAX_FRUITLESS_TRIES or self._restarts > MAX_RESTARTS or state.attempt_number >= MAX_TRIES
        )

    def _before_next_try(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._log.warning(
            "Fetching the audio of %s broke off, %s (%s); trying again",
            self._subject,
            self._progress(),
            _describe(error),
        )
        if self._received and not self._may_be_beginning():
            self._start_over()

    def _progress(self) -> str:
        return f"{self._received} of {self._source.length or 'an unknown number of'} bytes arrived"

    def _writable(self) -> UncommittedFile:
        if self._file is None:
            self._file = open_uncommitted(self._path)
        return self._file

    def _start_over(self) -> None:
        self._restarts += self._received > 0
        self._received = self._crc = 0
        self._source = Source()
        self._discard()

    def _discard(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.discard()
        except Exception as error:  # noqa: BLE001 - what made us discard is the error to report, not this one
            self._log.warning("What was written towards %s could not be discarded: %s", self._path, error)


def _require_absent(path: ObjectStoragePath) -> None:
    size = existing_size(path)
    if size is not None:
        raise DestinationError(
            f"{path} exists already ({size} bytes) and if_exists is 'fail'. Remove it, or choose another path."
        )


def _require_http(url: str, subject: str) -> str:
    try:
        scheme, host = urlsplit(url).scheme, httpx.URL(url).raw_host
    except (ValueError, httpx.InvalidURL) as error:
        raise AudioTransferError(f"The AudioUrl of {subject} is no link that can be opened: {error}.") from error
    if scheme not in {"http", "https"} or not host:
        raise AudioTransferError(
            f"The AudioUrl of {subject} is no http or https link, its scheme is {scheme!r}: it was not opened."
        )
    return url


def _describe(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, httpx.HTTPError) else str(error)
