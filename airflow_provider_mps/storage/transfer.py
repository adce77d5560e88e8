"""Move audio from its signed URL to object storage: verified before it appears there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_mps.exceptions import AudioTransferError
from airflow_provider_mps.redaction import hide_signed_urls_in_logs
from airflow_provider_mps.storage.conditional_write import ConditionFailedError
from airflow_provider_mps.storage.deadline import DEFAULT_TRANSFER_TIMEOUT_SECONDS, Deadline
from airflow_provider_mps.storage.destination import get_filesystem, is_local
from airflow_provider_mps.storage.errors import translate_storage_errors
from airflow_provider_mps.storage.http_response import choose_content_type
from airflow_provider_mps.storage.if_exists import (
    IfExists,
    ensure_absent,
    find_existing_file,
    make_exists_error,
)
from airflow_provider_mps.storage.pipe import Pipe
from airflow_provider_mps.storage.progress import Progress
from airflow_provider_mps.storage.writers import open_writer, validate_protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.storage.http_response import AudioMetadata
    from airflow_provider_mps.storage.progress import Logger
    from airflow_provider_mps.storage.writers.base import WriteReceipt


@dataclass(frozen=True)
class StoredAudio:
    """The audio that the destination holds."""

    size: int
    """Bytes."""
    crc64: int | None
    """CRC-64/XZ; ``None`` if an existing file was kept and the server sent no CRC-64."""
    is_kept: bool = field(default=False, compare=False)
    """Whether the file existed and was kept."""


def store_audio(
    url: str,
    path: ObjectStoragePath,
    *,
    get_fresh_url: Callable[[], str],
    subject: str,
    log: Logger,
    if_exists: IfExists = IfExists.OVERWRITE,
    timeout: float = DEFAULT_TRANSFER_TIMEOUT_SECONDS,
    deadline: Deadline | None = None,
    is_retry: bool = False,
) -> StoredAudio:
    """
    Download audio and upload it at the same time; the object appears only after it has been verified.

    :param url: the signed ``http`` or ``https`` URL of the audio
    :param get_fresh_url: returns a new signed URL when this one has expired
    :param subject: the task or line whose audio it is, for logs and errors
    :param log: where the transfer is logged, e.g. an operator's logger
    :param if_exists: what to do if there is an object already
    :param timeout: seconds for the whole transfer, retries included
    :param deadline: limits several transfers together; replaces ``timeout``
    :param is_retry: whether an earlier attempt may have stored the audio: ``fail`` then keeps the same audio
    :raises AudioTransferError: if the audio cannot be downloaded, verified or stored this time
    :raises DestinationError: if the destination must be fixed first
    :raises AudioTransferStopped: if ``deadline`` is cancelled
    """
    from airflow_provider_mps.storage.download import Download  # imports requests and urllib3

    get_filesystem(path, subject)  # may look up an Airflow connection, which the upload's thread must not
    validate_protocol(path, subject)
    hide_signed_urls_in_logs()
    deadline = deadline or Deadline(timeout, subject)
    progress = Progress(subject, log)

    def raise_if_cancelled() -> None:
        deadline.check()
        progress.log_if_due()

    create_only = if_exists is IfExists.FAIL
    existing = find_existing_file(path, if_exists, subject, deadline.check, is_retry=is_retry)
    try:
        with Upload(path, subject, raise_if_cancelled, log, create_only) as upload:
            download = Download(url, upload, get_fresh_url, subject, log, deadline, progress)
            if not download.run(existing.is_audio_of):
                existing.log_kept(log)
                return StoredAudio(existing.size, existing.crc64, is_kept=True)
            if create_only:
                ensure_absent(path, subject, deadline.check)
            receipt = upload.commit()
    except ConditionFailedError as error:  # found by the storage at the commit
        raise make_exists_error(path, subject) from error
    stored = StoredAudio(download.received, download.crc64)
    validate_receipt(receipt, stored, path, subject)
    log.info(
        "Stored the audio of %s at %s: %s bytes, CRC-64 %s, verified by %s; the storage confirmed %s",
        subject,
        path,
        stored.size,
        stored.crc64,
        download.metadata.verification,
        receipt.confirmed,
    )
    return stored


def validate_destination(path: ObjectStoragePath, if_exists: IfExists, subject: str) -> None:
    """
    Check a destination before the audio is made, so that MPS does not bill audio that cannot be stored.

    :raises DestinationError: if its filesystem cannot be used, no local file can be written there, or it exists and
        ``if_exists`` is ``fail``
    """
    get_filesystem(path, subject)
    validate_protocol(path, subject)
    if is_local(path):  # other storages show what they deny only when something is stored
        with translate_storage_errors(path, subject):
            open_writer(path).discard()
    if if_exists is IfExists.FAIL:
        ensure_absent(path, subject, lambda: None)


def validate_receipt(receipt: WriteReceipt, audio: StoredAudio, path: ObjectStoragePath, subject: str) -> None:
    """
    Check that a storage has confirmed what was written.

    :raises AudioTransferError: if it reports another size or checksum
    """
    assert audio.crc64 is not None  # noqa: S101 - computed while writing
    if defect := receipt.find_defect(audio.size, audio.crc64):
        raise AudioTransferError(
            f"The audio of {subject} was stored at {path}, but the storage reports that {defect}. Another writer has "
            "replaced it, or the storage has damaged it. Check what else writes there, and store it again."
        )


@dataclass(eq=False)
class Upload:
    """
    An upload that becomes visible only by :meth:`commit`.

    Each :meth:`start` opens a new uncommitted file, e.g. when a download has to begin again.
    """

    path: ObjectStoragePath
    subject: str
    raise_if_cancelled: Callable[[], None]
    log: Logger
    create_only: bool
    _pipe: Pipe | None = None

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._discard()
        except BaseException:  # a signal handler has raised during the cleanup
            self._discard()
            raise

    def start(self, metadata: AudioMetadata) -> None:
        """Start a new file, and discard what was written before."""
        self._discard()
        content_type = choose_content_type(metadata.content_type, self.path.name)
        with translate_storage_errors(self.path, self.subject):
            writer = open_writer(
                self.path, content_type=content_type, length=metadata.length, create_only=self.create_only
            )
            self._pipe = Pipe(writer, self.raise_if_cancelled, metadata.length)

    def write(self, block: bytes, /) -> None:
        """Append bytes."""
        assert self._pipe is not None  # noqa: S101 - start() was called
        with translate_storage_errors(self.path, self.subject):
            self._pipe.write(block)

    def commit(self) -> WriteReceipt:
        """Make the file visible."""
        assert self._pipe is not None  # noqa: S101 - start() was called
        with translate_storage_errors(self.path, self.subject):
            receipt = self._pipe.commit()
        self._pipe = None
        return receipt

    def _discard(self) -> None:
        if self._pipe is None:
            return
        try:
            self._pipe.discard()
        except Exception as error:  # noqa: BLE001 - must not hide the error that led here
            self.log.warning("The uncommitted upload to %s could not be discarded: %s", self.path, error)
        self._pipe = None  # only now: a signal may have interrupted the discard
