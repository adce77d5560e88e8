"""
Write to S3, or to storage with its API: one request for a small file, else a multipart upload.

The file object of s3fs is not used: it copies each part three times, sends one at a time, and takes a third longer.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import threading
import uuid
from collections import deque
from concurrent.futures import CancelledError
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.storage.conditional_write import (
    TOKEN_KEY,
    ConditionFailedError,
    is_conflict,
    is_unsupported,
)
from airflow_provider_mps.storage.errors import UnknownOutcomeError
from airflow_provider_mps.storage.http_response import parse_crc64
from airflow_provider_mps.storage.writers.base import AtomicWriter, WriteReceipt, get_part_size
from airflow_provider_mps.storage.writers.s3_body import PartBody, compute_multipart_etag, rewind_body

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from datetime import datetime

_MAX_PARTS_IN_FLIGHT = 2
_NEARBY_RESPONSE_SECONDS = 0.1
"""If a part takes longer, the server is distant: send the next part concurrently. This slows down a nearby server."""
_RESPONSE_TIMEOUT_SECONDS = 600.0  # S3 may take minutes to complete an upload of many parts
_ABORT_TIMEOUT_SECONDS = 10.0  # the caller has another error to report
_CONFLICT_PAUSES_SECONDS = (0.2, 0.4, 0.8, 1.6)
"""The longest pauses before a commit is repeated after a conflict with another write to the key."""
_DATE_TOLERANCE = timedelta(seconds=1)  # servers report whole seconds


class S3Writer(AtomicWriter):
    """Writes one object of an ``s3fs.S3FileSystem``; the arguments are as in ``open_writer``."""

    def __init__(
        self,
        fs: Any,
        path: str,
        *,
        content_type: str | None = None,
        length: int | None = None,
        create_only: bool = False,
    ) -> None:
        bucket, key, _ = fs.split_path(path)
        if not key:
            raise ValueError(f"{path} is a bucket, not a file in one")
        self._fs = fs
        self._path = path
        self._location = {"Bucket": bucket, "Key": key}
        self._options: dict[str, Any] = {"ContentType": content_type} if content_type else {}
        self._condition: dict[str, Any] = {"IfNoneMatch": "*"} if create_only else {}
        self._token: str | None = None  # identifies the object if an earlier attempt of the commit has created it
        if create_only:
            self._token = uuid.uuid4().hex
            configured = getattr(fs, "s3_additional_kwargs", {}).get("Metadata", {})
            self._options["Metadata"] = {**configured, TOKEN_KEY: self._token}
        self._length = length
        self._written = 0
        self._last = b""
        self._upload_id: str | None = None
        self._started_at: datetime | None = None  # by the server's clock
        self._sending: deque[tuple[Future[Any], bytes | bytearray]] = deque()
        self._parts: list[dict[str, Any]] = []
        self._spare: bytearray | None = None
        self._parts_were_listed = False  # by the server, before the upload was completed
        self._calls: list[Future[Any]] = []  # running requests other than parts, which a discard cancels
        self._discarded = threading.Event()

    def get_block_size(self, written: int) -> int:
        """Return the size in bytes of the block after ``written`` bytes."""
        return get_part_size(written, self._length)

    def write(self, block: bytearray, /) -> bytearray | None:
        """Send a block as a part, or keep the last one for the commit; return a block that was sent."""
        if len(block) < self.get_block_size(self._written):
            self._last = bytes(block)
        else:
            self._send_part(block)
        self._written += len(block)
        spare, self._spare = self._spare, None
        return spare

    def _send_part(self, part: bytes | bytearray) -> None:
        if self._upload_id is None:
            self._start_upload()
        number = len(self._parts) + len(self._sending) + 1
        sending = self._start_call("upload_part", UploadId=self._upload_id, PartNumber=number, Body=PartBody(part))
        self._sending.append((sending, part))
        with suppress(TimeoutError):
            self._await_oldest_part(_NEARBY_RESPONSE_SECONDS)
        while len(self._sending) >= _MAX_PARTS_IN_FLIGHT:
            self._await_oldest_part()

    def _start_upload(self) -> None:
        response = self._call("create_multipart_upload", **self._options, **self._condition)
        self._upload_id = response["UploadId"]
        if date := response["ResponseMetadata"]["HTTPHeaders"].get("date"):
            self._started_at = parsedate_to_datetime(date)
        client = asyncio.run_coroutine_threadsafe(self._fs.get_s3(self._location["Bucket"]), self._fs.loop).result()
        client.meta.events.register("provide-client-params.s3.UploadPart", rewind_body, unique_id="mps-rewind")

    def _await_oldest_part(self, timeout: float = _RESPONSE_TIMEOUT_SECONDS) -> None:
        sending, part = self._sending[0]
        response = sending.result(timeout)
        self._sending.popleft()
        self._spare = part if isinstance(part, bytearray) else None
        # A server that returns a checksum of the part requires it at the completion.
        checksums = {name: value for name, value in response.items() if name.startswith("Checksum")}
        checksums.pop("ChecksumType", None)
        self._parts.append({"PartNumber": len(self._parts) + 1, "ETag": response["ETag"], **checksums})

    def commit(self) -> WriteReceipt:
        """Make the object visible, once the server has verified it."""
        if self._upload_id is None:
            return self._put()
        if self._last:
            self._send_part(self._last)
        while self._sending:
            self._await_oldest_part()
        size = self._get_parts_size()
        if size is not None and size != self._written:
            raise OSError(f"the storage has {size} of {self._written} bytes")
        arguments = {"UploadId": self._upload_id, "MultipartUpload": {"Parts": self._parts}}
        crc64 = self._send_commit("complete_multipart_upload", self._was_completed, **arguments)
        self._upload_id = None
        return WriteReceipt(size, crc64)

    def _put(self) -> WriteReceipt:
        md5 = hashlib.md5(self._last, usedforsecurity=False)

        def was_put(head: dict[str, Any]) -> bool | None:
            is_encrypted = "kms" in head.get("ServerSideEncryption", "")  # then the ETag is no MD5
            return None if is_encrypted else head["ETag"].strip('"') == md5.hexdigest()

        content_md5 = base64.b64encode(md5.digest()).decode()  # S3 rejects a body with another MD5
        crc64 = self._send_commit("put_object", was_put, **self._options, Body=self._last, ContentMD5=content_md5)
        return WriteReceipt(crc64=crc64, md5=True)

    def _send_commit(
        self, method: str, is_own: Callable[[dict[str, Any]], bool | None], **arguments: Any
    ) -> int | None:
        """
        Send the request that makes the object visible; return the CRC-64 in the response, which only COS sends.

        :param is_own: returns whether a HEAD response is of the object that this writer wrote; ``None`` if unknown
        :raises ConditionFailedError: when another object exists, and this one was only to be created
        """
        pauses = iter(_CONFLICT_PAUSES_SECONDS)
        response: dict[str, Any] | None = None
        while response is None:
            try:
                response = self._call(method, **arguments, **self._condition)
            except Exception as error:
                if self._condition and is_unsupported(error):
                    self._condition = {}  # the caller has just checked that there is no object
                elif self._condition and is_conflict(error) and (pause := next(pauses, None)):
                    if self._discarded.wait(random.uniform(pause / 2, pause)):  # noqa: S311 - not for security
                        raise
                else:
                    response = self._resolve_commit_error(error, self._has_token if self._token else is_own)
        self._fs.invalidate_cache(self._path)
        return parse_crc64(response["ResponseMetadata"]["HTTPHeaders"])

    def _resolve_commit_error(
        self, error: Exception, is_own: Callable[[dict[str, Any]], bool | None]
    ) -> dict[str, Any]:
        """
        Return the HEAD response of the object if it exists although its commit failed; else raise the error.

        Usually the server has completed the upload, its response was lost, and the repetition by s3fs found no upload.

        :raises UnknownOutcomeError: when it is unknown whether the object exists
        """
        if isinstance(error, PermissionError | AirflowException | CancelledError):  # rejected, not sent, or cancelled
            raise error
        head: dict[str, Any] | None = None
        try:
            head = self._call("head_object")
        except FileNotFoundError:
            pass
        except Exception as head_error:  # noqa: BLE001 - whatever it is, the outcome stays unknown
            raise UnknownOutcomeError(f"{error}; whether it is stored is unknown: {head_error}") from error
        result = head is not None and is_own(head)
        if result is None:
            raise UnknownOutcomeError(str(error)) from error
        if not result or head is None:
            raise error  # outside the handler, to keep its cause, which has the server's error code
        return head

    def _has_token(self, head: dict[str, Any]) -> bool:
        """Return true if this writer has created the object; raise ``ConditionFailedError`` if another has."""
        headers = head["ResponseMetadata"]["HTTPHeaders"]
        if self._token not in {headers.get(f"x-{vendor}-meta-{TOKEN_KEY}") for vendor in ("amz", "cos")}:
            raise ConditionFailedError(f"{self._path} exists")
        return True

    def _was_completed(self, head: dict[str, Any]) -> bool | None:
        """
        Return whether the existing object is this upload; ``None`` if that is unknown.

        Some servers change the ETag later. If the parts were listed, an object that is not older than the start of the
        upload then counts as this upload. S3 dates an object from the start of its upload, others from its last part.
        """
        if head["ContentLength"] != self._written:
            return False
        if head["ETag"].strip('"') == compute_multipart_etag(self._parts):
            return True
        if not self._parts_were_listed or self._started_at is None:
            return None
        return bool(head["LastModified"] >= self._started_at - _DATE_TOLERANCE)

    def _get_parts_size(self) -> int | None:
        """Return how many bytes the server has; ``None`` if it cannot list parts, or denies it."""
        size, marker, has_more = 0, 0, True
        while has_more:
            try:
                page = self._call("list_parts", UploadId=self._upload_id, PartNumberMarker=marker)
            except OSError as error:  # a permission to write does not include one to list
                if isinstance(error, PermissionError) or is_unsupported(error):
                    return None
                raise
            self._parts_were_listed = True
            size += sum(part["Size"] for part in page.get("Parts", ()))
            has_more = page.get("IsTruncated", False) and page["NextPartNumberMarker"] > marker
            marker = page.get("NextPartNumberMarker", 0)
        return size

    def discard(self) -> None:
        """Cancel running requests, and abort the upload if one has started."""
        self._discarded.set()
        for call in [*self._calls, *(sending for sending, _ in list(self._sending))]:
            call.cancel()
        if self._upload_id is not None:
            with suppress(FileNotFoundError):  # aborted before
                self._call("abort_multipart_upload", _ABORT_TIMEOUT_SECONDS, UploadId=self._upload_id)
        self._upload_id = None

    def _call(self, method: str, timeout: float = _RESPONSE_TIMEOUT_SECONDS, **arguments: Any) -> Any:
        call = self._start_call(method, **arguments)
        self._calls.append(call)
        try:
            return call.result(timeout)
        except TimeoutError as error:
            if call.done():
                raise
            call.cancel()
            raise OSError(f"the storage has not responded to {method} for {timeout:g} seconds") from error
        finally:
            self._calls.remove(call)

    def _start_call(self, method: str, **arguments: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(self._fs._call_s3(method, **self._location, **arguments), self._fs.loop)
