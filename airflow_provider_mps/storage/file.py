"""Store a local file: uploaded uncommitted, verified, then committed."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING

from airflow_provider_mps.storage.conditional_write import ConditionFailedError
from airflow_provider_mps.storage.deadline import DEFAULT_TRANSFER_TIMEOUT_SECONDS, Deadline
from airflow_provider_mps.storage.destination import get_filesystem
from airflow_provider_mps.storage.http_response import AudioMetadata
from airflow_provider_mps.storage.if_exists import READ_BYTES, IfExists, ensure_absent, make_exists_error
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
) -> StoredAudio:
    """
    Store the content of a file; the object appears only when it is complete, and an older one stays on failure.

    :param file: opened for reading, and seekable
    :param subject: what is stored, for logs and errors
    :param if_exists: ``overwrite`` or ``fail``
    :param timeout: seconds for the whole transfer
    :raises AudioTransferError: if the file cannot be stored this time
    :raises DestinationError: if the destination must be fixed first
    """
    from fastcrc import crc64

    get_filesystem(path, subject)  # may look up an Airflow connection, which the upload's thread must not
    validate_protocol(path, subject)
    deadline = Deadline(timeout, subject)
    progress = Progress(f"Storing {subject}", log)

    def raise_if_cancelled() -> None:
        deadline.check()
        progress.log_if_due()

    create_only = if_exists is IfExists.FAIL
    if create_only:
        ensure_absent(path, subject, deadline.check)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    sent = checksum = 0
    try:
        with Upload(path, subject, raise_if_cancelled, log, create_only) as upload:
            upload.start(AudioMetadata(length=size))
            while block := file.read(READ_BYTES):
                deadline.check()
                upload.write(block)
                checksum = crc64.xz(block, checksum)
                sent += len(block)
                progress.update(sent, size)
            if create_only:
                ensure_absent(path, subject, deadline.check)
            receipt = upload.commit()
    except ConditionFailedError as error:  # found by the storage at the commit
        raise make_exists_error(path, subject) from error
    audio = StoredAudio(sent, checksum)
    validate_receipt(receipt, audio, path, subject)
    log.info(
        "Stored %s at %s: %s bytes, CRC-64 %s; the storage confirmed %s",
        subject,
        path,
        sent,
        checksum,
        receipt.confirmed,
    )
    return audio
