"""Store a local file: uploaded uncommitted, verified, then committed."""

from __future__ import annotations

from dataclasses import replace
from typing import IO, TYPE_CHECKING

from airflow_provider_mps.storage.conditional_write import ConditionFailedError
from airflow_provider_mps.storage.deadline import DEFAULT_TRANSFER_TIMEOUT_SECONDS, Deadline
from airflow_provider_mps.storage.destination import get_filesystem
from airflow_provider_mps.storage.http_response import AudioMetadata
from airflow_provider_mps.storage.if_exists import (
    READ_BYTES,
    IfExists,
    ensure_absent,
    find_existing_file,
    make_exists_error,
)
from airflow_provider_mps.storage.progress import Progress
from airflow_provider_mps.storage.transfer import StoredAudio, Upload, validate_receipt
from airflow_provider_mps.storage.writers import validate_protocol

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.storage.progress import Logger


def store_file(
    file: IO[bytes],
    path: ObjectStoragePath,
    *,
    subject: str,
    log: Logger,
    if_exists: IfExists = IfExists.OVERWRITE,
    timeout: float = DEFAULT_TRANSFER_TIMEOUT_SECONDS,
    deadline: Deadline | None = None,
    content_type: str | None = None,
    is_retry: bool = False,
) -> StoredAudio:
    """
    Store the content of a file; the object appears only when it is complete, and an older one stays on failure.

    :param file: opened for reading, and seekable; it may have no name, or be in memory
    :param subject: what is stored, for logs and errors
    :param if_exists: what to do if there is an object already
    :param timeout: seconds for the whole transfer
    :param deadline: limits several attempts together; replaces ``timeout``
    :param content_type: to store it with; without it, the suffix of the path decides
    :param is_retry: whether an earlier attempt may have stored the file: ``fail`` then keeps the same content
    :raises AudioTransferError: if the file cannot be stored this time
    :raises DestinationError: if the destination must be fixed first
    """
    get_filesystem(path, subject)  # may look up an Airflow connection, which the upload's thread must not
    validate_protocol(path, subject)
    deadline = deadline or Deadline(timeout, subject)
    progress = Progress(f"Storing {subject}", log)

    def raise_if_cancelled() -> None:
        deadline.check()
        progress.log_if_due()

    audio = _measure(file, deadline)
    create_only = if_exists is IfExists.FAIL
    existing = find_existing_file(path, if_exists, subject, deadline.check, is_retry=is_retry)
    if existing.is_audio_of(AudioMetadata(audio.size, audio.crc64)):
        existing.log_kept(log)
        return replace(audio, is_kept=True)
    sent = 0
    try:
        with Upload(path, subject, raise_if_cancelled, log, create_only) as upload:
            upload.start(AudioMetadata(audio.size, content_type=content_type))
            file.seek(0)
            while block := file.read(READ_BYTES):
                deadline.check()
                upload.write(block)
                sent += len(block)
                progress.update(sent, audio.size)
            if create_only:
                ensure_absent(path, subject, deadline.check)
            receipt = upload.commit()
    except ConditionFailedError as error:  # found by the storage at the commit
        raise make_exists_error(path, subject) from error
    validate_receipt(receipt, audio, path, subject)
    log.info(
        "Stored the audio of %s at %s: %s bytes, CRC-64 %s; the storage confirmed %s",
        subject,
        path,
        audio.size,
        audio.crc64,
        receipt.confirmed,
    )
    return audio


def _measure(file: IO[bytes], deadline: Deadline) -> StoredAudio:
    """Return size and CRC-64 of a file."""
    from fastcrc import crc64

    file.seek(0)
    size = checksum = 0
    while block := file.read(READ_BYTES):
        deadline.check()
        size += len(block)
        checksum = crc64.xz(block, checksum)
    return StoredAudio(size, checksum)
