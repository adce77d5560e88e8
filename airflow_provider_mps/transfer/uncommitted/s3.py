"""
A file in S3, or in a store that speaks its API.

Not through s3fs's own file object: that one copies each part three times and sends one at a time, which takes a third
longer than uploading the same file from disk.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import random
import threading
from collections import deque
from concurrent.futures import CancelledError
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.conditional_write import (
    TOKEN_KEY,
    ConditionFailedError,
    is_conflict,
    is_unsupported,
    new_token,
)
from airflow_provider_mps.store_errors import UnknownOutcomeError
from airflow_provider_mps.transfer.download import crc64_of
from airflow_provider_mps.transfer.parts import part_size
from airflow_provider_mps.transfer.uncommitted.part_body import PartBody, rewind
from airflow_provider_mps.transfer.uncommitted.told import Told

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from datetime import datetime

IN_FLIGHT = 2
"""Parts that are sent at once where the store is far: while one waits for its answer, the other is on its way."""
NEAR = 0.1
"""Seconds within which a store that is near has a part; there, two at once would only be in each other's way."""

ANSWER_TIMEOUT = 600.0
"""Seconds that any request may take; completing an upload of many parts may take some minutes."""

ABORT_TIMEOUT = 10.0
"""Seconds that an abort may take: whoever discards has something else to report."""
_CONFLICT_PAUSES_SECONDS = (0.2, 0.4, 0.8, 1.6)
"""Pauses, at most, before a commit is repeated that met another write to the same key."""
_TICK = timedelta(seconds=1)
"""What the times that a store tells may lag behind one another."""


class S3File:
    """
    Put with one request where it is no longer than one part; else an upload in parts, completed or aborted.

    :param fs: the filesystem, an ``s3fs.S3FileSystem``
    :param path: bucket and key
    :param content_type: kept with the file
    :param length: bytes that will be written, where it is known
    :param create_only: never replace an object, if the server enforces that
    """

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
        self._place = {"Bucket": bucket, "Key": key}
        self._options: dict[str, Any] = {"ContentType": content_type} if content_type else {}
        self._condition: dict[str, Any] = {"IfNoneMatch": "*"} if create_only else {}
        self._token: str | None = None
        """Recognises the object if an earlier attempt of the same commit has created it."""
        if create_only:
            self._token = new_token()
            configured = getattr(fs, "s3_additional_kwargs", {}).get("Metadata", {})
            self._options["Metadata"] = {**configured, TOKEN_KEY: self._token}
        self._length = length
        self._written = 0
        self._last = b""
        self._upload_id: str | None = None
        self._sending: deque[tuple[Future[Any], bytes | bytearray]] = deque()
        self._spare: bytearray | None = None
        self._calls: list[Future[Any]] = []
        """What is under way beside the parts, for a discard by another thread."""
        self._discarded = threading.Event()
        self._parts: list[dict[str, Any]] = []
        self._begun_at: datetime | None = None
        """When the upload in parts began, by the store's clock."""
        self._listed = False
        """Whether the store has listed the parts before they are completed."""

    def block_size(self, sent: int) -> int:
        """Tell how many bytes the block after so many shall have."""
        return part_size(sent, self._length)

    def write(self, block: bytearray, /) -> bytearray | None:
        """Send a part, the last block at the commit; return one that the store has by now."""
        if len(block) < self.block_size(self._written):
            self._last = bytes(block)
        else:
            self._send(block)
        self._written += len(block)
        spare, self._spare = self._spare, None
        return spare

    def _send(self, part: bytes | bytearray) -> None:
        if self._upload_id is None:
            answer = self._call("create_multipart_upload", **self._options, **self._condition)
            self._upload_id = answer["UploadId"]
            if date := answer["ResponseMetadata"]["HTTPHeaders"].get("date"):
                self._begun_at = parsedate_to_datetime(date)
            client = asyncio.run_coroutine_threadsafe(self._fs.get_s3(self._place["Bucket"]), self._fs.loop).result()
            client.meta.events.register("provide-client-params.s3.UploadPart", rewind, unique_id="mps-rewind")
        number = len(self._parts) + len(self._sending) + 1
        sending = self._begin("upload_part", UploadId=self._upload_id, PartNumber=number, Body=PartBody(part))
        self._sending.append((sending, part))
        with suppress(TimeoutError):
            self._await_part(NEAR)
        self._await_parts(IN_FLIGHT - 1)

    def _await_parts(self, allowed: int) -> None:
        """Wait until no more than so many parts are on their way."""
        while len(self._sending) > allowed:
            self._await_part(ANSWER_TIMEOUT)

    def _await_part(self, timeout: float) -> None:
        """Wait for the part that was sent first."""
        sending, part = self._sending[0]
        answer = sending.result(timeout)
        self._sending.popleft()
        self._spare = part if isinstance(part, bytearray) else None
        # A store that has made a checksum of the part wants to hear it again.
        told = {name: value for name, value in answer.items() if name.startswith("Checksum")}
        told.pop("ChecksumType", None)
        self._parts.append({"PartNumber": len(self._parts) + 1, "ETag": answer["ETag"], **told})

    def commit(self) -> Told:
        """Show the file, once the store has verified it."""
        if self._upload_id is None:
            return self._put()
        if self._last:
            self._send(self._last)
        self._await_parts(0)
        size = self._size_of_parts()
        if size is not None and size != self._written:
            raise OSError(f"the store has {size} of {self._written} bytes")
        return Told(size, self._complete())

    def _put(self) -> Told:
        md5 = hashlib.md5(self._last, usedforsecurity=False)
        digest = base64.b64encode(md5.digest()).decode()  # S3 refuses what is not this
        answer = self._show(
            lambda there: self._was_put(there, md5.hexdigest()),
            "put_object",
            **self._options,
            Body=self._last,
            ContentMD5=digest,
        )
        self._fs.invalidate_cache(self._path)
        return Told(crc64=_crc64_in(answer), md5=True)

    def _complete(self) -> int | None:
        """Complete the upload, and return the CRC-64 that the store tells."""
        # Most of all where the first answer was lost: to be completed twice, an upload is no longer there.
        answer = self._show(
            self._was_completed,
            "complete_multipart_upload",
            UploadId=self._upload_id,
            MultipartUpload={"Parts": self._parts},
        )
        self._upload_id = None
        self._fs.invalidate_cache(self._path)
        return _crc64_in(answer)

    def _show(self, is_ours: Callable[[dict[str, Any]], bool | None], method: str, **arguments: Any) -> dict[str, Any]:
        """
        Send the request that shows the file; return its answer, or the object's if that is this file after all.

        :raises ConditionFailedError: when there is another object, and the file was only to be created
        """
        pauses = iter(_CONFLICT_PAUSES_SECONDS)
        while True:
            try:
                answer: dict[str, Any] = self._call(method, **arguments, **self._condition)
            except Exception as error:
                if self._condition and is_unsupported(error):
                    self._condition = {}  # what is there has just been looked at
                elif self._condition and is_conflict(error) and (pause := next(pauses, None)):
                    if self._discarded.wait(random.uniform(pause / 2, pause)):  # noqa: S311 - no secret
                        raise
                else:
                    return self._refuted(error, self._has_token if self._token else is_ours)
            else:
                return answer

    def _has_token(self, there: dict[str, Any]) -> bool:
        """
        Return whether this upload has created the object that is there.

        :raises ConditionFailedError: when it has not
        """
        headers = there["ResponseMetadata"]["HTTPHeaders"]
        tokens = {headers.get(f"x-{vendor}-meta-{TOKEN_KEY}") for vendor in ("amz", "cos")}
        if self._token not in tokens:
            raise ConditionFailedError(f"{self._path} exists")
        return True

    def _refuted(self, error: Exception, is_ours: Callable[[dict[str, Any]], bool | None]) -> dict[str, Any]:
        """
        Look whether the file is there, although its store did not say so.

        :raises UnknownOutcomeError: where that cannot be told
        :raises Exception: ``error``, where it is not there
        """
        if isinstance(error, PermissionError | AirflowException | CancelledError):  # refused, not sent, or given up
            raise error
        there: dict[str, Any] | None = None
        try:
            there = self._call("head_object")
        except FileNotFoundError:
            pass
        except Exception as other:  # noqa: BLE001 - whatever it is, it does not tell
            raise UnknownOutcomeError(f"{error}; nor does it tell whether it is there: {other}") from error
        if there is None:
            raise error  # not from within the handler: its cause has the code of the server
        verdict = is_ours(there)
        if verdict is None:
            raise UnknownOutcomeError(str(error)) from error
        if not verdict:
            raise error
        return there

    def _was_put(self, there: dict[str, Any], md5: str) -> bool | None:
        """Tell whether what is there was put with one request; ``None`` where that cannot be told."""
        encrypted = "kms" in there.get("ServerSideEncryption", "")  # then its ETag is no MD5
        return None if encrypted else there["ETag"].strip('"') == md5

    def _was_completed(self, there: dict[str, Any]) -> bool | None:
        """
        Return whether the object there is this upload; ``None`` if that is unknown.

        It is if it has this upload's ETag. Some stores change the ETag later; then it is if the parts were listed
        before and the object is not older than the upload. S3 dates an object from the beginning of its upload, others
        from its last part.
        """
        if there["ContentLength"] != self._written:
            return False
        if there["ETag"].strip('"') == _etag_of_parts(self._parts):
            return True
        if not self._listed or self._begun_at is None:
            return None
        return bool(there["LastModified"] >= self._begun_at - _TICK)

    def _size_of_parts(self) -> int | None:
        """Ask how many bytes the store has; ``None`` where it does not tell, or may not."""
        size, marker, more = 0, 0, True
        while more:
            try:
                answer = self._call("list_parts", UploadId=self._upload_id, PartNumberMarker=marker)
            except PermissionError:  # who may write need not be who may look
                return None
            except OSError as error:
                if error.errno != errno.ENOSYS:  # not every store knows how to tell
                    raise
                return None
            self._listed = True
            size += sum(part["Size"] for part in answer.get("Parts", ()))
            more = answer.get("IsTruncated", False) and answer["NextPartNumberMarker"] > marker
            marker = answer.get("NextPartNumberMarker", 0)
        return size

    def discard(self) -> None:
        """Abort the upload, where one has begun."""
        self._discarded.set()
        for call in [*self._calls, *(sending for sending, _ in list(self._sending))]:
            call.cancel()
        if self._upload_id is not None:
            with suppress(FileNotFoundError):  # it has been aborted before
                self._call("abort_multipart_upload", ABORT_TIMEOUT, UploadId=self._upload_id)
        self._upload_id = None

    def _call(self, method: str, timeout: float = ANSWER_TIMEOUT, **arguments: Any) -> Any:
        call = self._begin(method, **arguments)
        self._calls.append(call)
        try:
            return call.result(timeout)
        except TimeoutError as error:
            if call.done():
                raise
            call.cancel()
            raise OSError(f"the store has not answered to {method} for {timeout:g} seconds") from error
        finally:
            self._calls.remove(call)

    def _begin(self, method: str, **arguments: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(self._fs._call_s3(method, **self._place, **arguments), self._fs.loop)


def _etag_of_parts(parts: list[dict[str, Any]]) -> str | None:
    """Return the ETag that S3 computes for an upload in parts; ``None`` if the ETag of a part is not an MD5."""
    try:
        md5s = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    except ValueError:
        return None
    return f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _crc64_in(answer: dict[str, Any]) -> int | None:
    """Return the CRC-64 that COS adds to its answers; nobody else does."""
    return crc64_of(answer["ResponseMetadata"]["HTTPHeaders"])
