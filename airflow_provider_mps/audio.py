"""Move the audio from its link to object storage: fetched and uploaded at once, committed only when verified."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_mps.choice import IfExists
from airflow_provider_mps.conditional_write import ConditionFailedError
from airflow_provider_mps.destination import existing_size, filesystem_of
from airflow_provider_mps.errors import AudioTransferError, DestinationError
from airflow_provider_mps.redaction import keep_links_out_of_logs
from airflow_provider_mps.store_errors import explaining
from airflow_provider_mps.transfer.content_type import choose_content_type
from airflow_provider_mps.transfer.deadline import DEFAULT_TIMEOUT, Deadline
from airflow_provider_mps.transfer.existing import ExistingFile
from airflow_provider_mps.transfer.pipe import Pipe
from airflow_provider_mps.transfer.progress import Progress
from airflow_provider_mps.transfer.uncommitted import open_uncommitted, validate_protocol
from airflow_provider_mps.transfer.waited_for import waited_for

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.transfer.download import Source
    from airflow_provider_mps.transfer.log import Log
    from airflow_provider_mps.transfer.uncommitted.told import Told


@dataclass(frozen=True)
class StoredAudio:
    """What is at the destination now."""

    size: int
    """Bytes."""
    crc64: int | None
    """CRC-64/XZ; ``None`` where a file of the same size was there already, and its source has no CRC-64."""


def store_audio(
    url: str,
    path: ObjectStoragePath,
    *,
    fresh_url: Callable[[], str],
    subject: str,
    log: Log,
    if_exists: IfExists = IfExists.OVERWRITE,
    timeout: float = DEFAULT_TIMEOUT,
    stop: threading.Event | None = None,
    deadline: Deadline | None = None,
) -> StoredAudio:
    """
    Store what is at ``url`` at ``path``; nothing that is not verified ever appears there.

    :param url: an ``http`` or ``https`` link to the audio
    :param path: the file to write
    :param fresh_url: asks for a new link, when this one has expired
    :param subject: whose audio it is, for logs and errors
    :param log: where the story of the transfer is told, e.g. an operator's own log
    :param if_exists: what to do where a file is there already
    :param timeout: seconds that everything may take, tries included
    :param stop: where this is not the main thread, in which Airflow's signals raise: set to end it
    :param deadline: of several attempts together, in place of ``timeout`` and ``stop``
    :raises AudioTransferError: when the audio could not be fetched, verified or stored in several tries
    :raises DestinationError: when the destination must be mended first
    :raises AudioTransferStopped: when ``stop`` is set
    """
    from airflow_provider_mps.transfer.fetch import Fetch

    must_be_new = if_exists is IfExists.FAIL
    filesystem_of(path, subject)  # which may look up a connection: not in the thread that uploads
    validate_protocol(path, subject)
    keep_links_out_of_logs()
    deadline = deadline or Deadline(timeout, subject, stop)
    progress = Progress(subject, log)
    if must_be_new:
        _require_absent(path, subject, deadline)
    size_there = _size_now(path, subject, deadline) if if_exists is IfExists.SKIP else None
    existing = ExistingFile(path, size_there, subject, deadline.check)

    def keep_waiting() -> None:
        deadline.check()
        progress.tell_again()

    with _existence_explained(path, subject), _Upload(path, subject, keep_waiting, log, must_be_new) as upload:
        fetch = Fetch(url, upload, fresh_url=fresh_url, subject=subject, log=log, deadline=deadline, progress=progress)
        if not fetch.run(existing.is_audio_of):
            return _skipped(path, existing, log)
        if must_be_new:
            _require_absent(path, subject, deadline)
        told = upload.commit()
    if defect := told.defect(fetch.received, fetch.crc64):
        raise AudioTransferError(
            f"The audio of {subject} was stored at {path} whole, but of what is there now the store tells that "
            f"{defect}: either somebody else has written there meanwhile, or the store has damaged it. Look at who "
            "else writes there, and store it again."
        )
    log.info(
        "Stored the audio of %s at %s: %s bytes, CRC-64 %s, checked by %s; its store confirms %s",
        subject,
        path,
        fetch.received,
        fetch.crc64,
        fetch.source.checks,
        told.what,
    )
    return StoredAudio(fetch.received, fetch.crc64)


def _skipped(path: ObjectStoragePath, existing: ExistingFile, log: Log) -> StoredAudio:
    if existing.crc64 is None:
        log.warning(
            "%s has the audio's %s bytes: nothing was moved. Only the size was compared, because the server of the "
            "audio sends no CRC-64.",
            path,
            existing.size,
        )
    else:
        log.info("%s has the audio's %s bytes and CRC-64 %s: nothing was moved", path, existing.size, existing.crc64)
    return StoredAudio(existing.size, existing.crc64)


class _Upload:
    """The uncommitted file at the other end of a pipe; another one each time that the audio begins anew."""

    def __init__(
        self,
        path: ObjectStoragePath,
        subject: str,
        keep_waiting: Callable[[], None],
        log: Log,
        create_only: bool,  # noqa: FBT001 - as the others
    ) -> None:
        self._create_only = create_only
        self._path = path
        self._subject = subject
        self._keep_waiting = keep_waiting
        self._log = log
        self._pipe: Pipe | None = None

    def __enter__(self) -> _Upload:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._discard()
        except BaseException:  # a signal came in the middle of it
            self._discard()
            raise

    def begin(self, source: Source) -> None:
        """Prepare for an audio from its start, and forget what was written before."""
        self._discard()
        content_type = choose_content_type(source.content_type, self._path.name)
        with explaining(self._path, self._subject):
            file = open_uncommitted(
                self._path, content_type=content_type, length=source.length, create_only=self._create_only
            )
            self._pipe = Pipe(file, self._keep_waiting)

    def write(self, block: bytes, /) -> None:
        """Append bytes."""
        with explaining(self._path, self._subject):
            self._begun().write(block)

    def commit(self) -> Told:
        """Show the file."""
        with explaining(self._path, self._subject):
            told = self._begun().commit()
        self._pipe = None
        return told

    def _begun(self) -> Pipe:
        assert self._pipe is not None  # noqa: S101 - an audio begins before it goes on
        return self._pipe

    def _discard(self) -> None:
        if self._pipe is None:
            return
        try:
            self._pipe.discard()
        except Exception as error:  # noqa: BLE001 - what made us discard is the error to report, not this one
            self._log.warning("What was written towards %s could not be discarded: %s", self._path, error)
        self._pipe = None  # not before: a signal may have interrupted it


def _size_now(path: ObjectStoragePath, subject: str, deadline: Deadline) -> int | None:
    return waited_for(lambda: existing_size(path, subject), deadline.check)


def _require_absent(path: ObjectStoragePath, subject: str, deadline: Deadline) -> None:
    size = _size_now(path, subject, deadline)
    if size is not None:
        raise _exists(path, subject, f" ({size} bytes)")


@contextmanager
def _existence_explained(path: ObjectStoragePath, subject: str) -> Iterator[None]:
    """Say the same of an object that the storage has found at the commit as of one that a look has found."""
    try:
        yield
    except ConditionFailedError as error:
        raise _exists(path, subject) from error


def _exists(path: ObjectStoragePath, subject: str, size: str = "") -> DestinationError:
    return DestinationError(
        f"The audio of {subject} was not stored: {path} exists already{size} and if_exists is 'fail'. "
        "Remove it, or choose another path."
    )
