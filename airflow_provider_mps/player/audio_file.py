"""Read an audio file, and nothing else, from object storage."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, ObjectStoragePath
from airflow.sdk.io import get_fs, has_fs

from airflow_provider_mps.redaction import hide_signed_urls_in_logs
from airflow_provider_mps.storage.errors import is_permission_error

if TYPE_CHECKING:
    from collections.abc import Iterator


log = logging.getLogger(__name__)

BLOCK_BYTES = 1024 * 1024
_S3_SCHEMES = {"s3", "s3a", "s3n"}
_MAX_FILESYSTEMS = 32
_filesystems: dict[tuple[str, str | None], tuple[bytes, Any]] = {}
_CONTENT_TYPES = {
    b"ID3": "audio/mpeg",
    # Frames of MPEG-2.5, -2 and -1, each layer III, with and without a CRC.
    **dict.fromkeys((b"\xff\xe2", b"\xff\xe3", b"\xff\xf2", b"\xff\xf3", b"\xff\xfa", b"\xff\xfb"), "audio/mpeg"),
    # ADTS frames of MPEG-4 and -2, likewise.
    **dict.fromkeys((b"\xff\xf0", b"\xff\xf1", b"\xff\xf8", b"\xff\xf9"), "audio/aac"),
    b"fLaC": "audio/flac",
    b"OggS": "audio/ogg",
}


class NoAudioError(Exception):
    """There is no audio to play; the message, for the user of the view, says why."""


@dataclass(frozen=True)
class AudioFile:
    """An audio file as it is now."""

    path: str
    size: int
    """Bytes."""
    content_type: str
    etag: str
    """Differs when the object has changed."""
    _fs: Any = field(repr=False, compare=False)
    _key: str = field(repr=False, compare=False)

    @classmethod
    def find(cls, path: str) -> AudioFile:
        """
        Find the audio file at a path.

        :param path: the text of an ``ObjectStoragePath``
        :raises NoAudioError: if it does not exist, cannot be read, or is not audio
        """
        # Any user who may write XComs can write a path, so only audio in known storage is read.
        scheme = path.partition("://")[0] if "://" in path else ""
        if not has_fs(scheme):
            # Not quoted: it may be a signed URL.
            raise NoAudioError(
                "The return value of this task instance is not a path in object storage that Airflow's API server "
                "supports."
            )
        hide_signed_urls_in_logs()
        try:
            fs, key = _get_filesystem(path, scheme), ObjectStoragePath(path).path
            fs.invalidate_cache()
            info = fs.info(key)
            content_type = _detect_content_type(fs.cat_file(key, start=0, end=16)) if info["type"] == "file" else None
        except FileNotFoundError as error:
            raise NoAudioError(
                f"{path} does not exist. It was moved or deleted, or is not on the machine of Airflow's API server."
            ) from error
        except Exception as error:
            # The error's text is not logged either: it may quote a URL with a password or a signature.
            types = _describe_types(error)
            log.warning("%s cannot be read: %s", path.encode(errors="backslashreplace").decode(), types)
            if isinstance(error, AirflowNotFoundException):
                raise NoAudioError(
                    f"{path} cannot be read: its connection does not exist. Create it under Admin → Connections."
                ) from error
            if is_permission_error(error):
                raise NoAudioError(
                    f"Airflow's API server does not have permission to read {path}. Grant it to the connection in this "
                    "path or, if it has none, to the server's own account."
                ) from error
            raise NoAudioError(
                f"{path} cannot be read ({types}). Check the connection in this path, and whether Airflow's API server "
                "can reach the storage."
            ) from error
        if content_type is None:
            raise NoAudioError(f"{path} is not an audio file.")
        if not isinstance(info.get("size"), int):
            raise NoAudioError(f"Listen cannot play {path}: its storage does not report its size.")
        etag = hashlib.sha256(repr(sorted(info.items(), key=str)).encode()).hexdigest()[:32]
        return cls(path, info["size"], content_type, f'"{etag}"', fs, key)

    @property
    def name(self) -> str:
        """The file name."""
        return self._key.rpartition("/")[2]

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """
        Read a range of bytes.

        :param start: the first byte
        :param stop: the byte after the last
        :raises EOFError: if the file has become shorter
        :raises OSError: if the storage cannot be read; it omits the storage's message, since the server logs it
        """
        for first in range(start, stop, BLOCK_BYTES):
            last = min(first + BLOCK_BYTES, stop)
            try:
                block = self._fs.cat_file(self._key, start=first, end=last)
            except Exception as error:  # noqa: BLE001 - each filesystem raises its own
                raise OSError(f"{self.path} could not be read to its end ({_describe_types(error)})") from None
            if len(block) != last - first:
                raise EOFError(f"{self.path} changed while it was read")
            yield block

    def open(self) -> Any:
        """Open it as a seekable file with a small buffer."""
        return self._fs.open(self._key, "rb", block_size=64 * 1024, cache_type="bytes")


def _describe_types(error: BaseException) -> str:
    """Return the class names of an error and of its causes."""
    causes = [error]
    while cause := causes[-1].__cause__:
        causes.append(cause)
    return ", caused by ".join(type(cause).__name__ for cause in causes)


def _get_filesystem(path: str, scheme: str) -> Any:
    """
    Return the filesystem of a path; a new one if its connection has changed.

    Airflow itself keeps one per connection id for the life of a process, and uses the machine's own credentials if the
    connection is missing.
    """
    conn_id = path.partition("://")[2].partition("/")[0].rpartition("@")[0] or None
    content = BaseHook.get_connection(conn_id).get_uri() if conn_id else ""
    version = hashlib.sha256(content.encode("utf-8", "replace")).digest()
    kept = _filesystems.pop((scheme, conn_id), None)
    fs = kept[1] if kept and kept[0] == version else get_fs(scheme, conn_id, _storage_options(scheme))
    _filesystems[scheme, conn_id] = (version, fs)
    while len(_filesystems) > _MAX_FILESYSTEMS:
        _filesystems.pop(next(iter(_filesystems)), None)  # the least recently used
    return fs


def _storage_options(scheme: str) -> dict[str, str]:
    """
    Return options that let a filesystem read ranges of an object.

    Some S3 servers, such as rclone, send the checksum of the whole object with a range of it. If botocore requests
    checksums, it then raises ``FlexibleChecksumError``.
    """
    if scheme not in _S3_SCHEMES:
        return {}
    from botocore.config import Config

    # Before 1.36, botocore neither has this option nor requests checksums.
    option = "response_checksum_validation"
    return {option: "when_required"} if option in Config.OPTION_DEFAULTS else {}


def _detect_content_type(head: bytes) -> str | None:
    """Return the content type by the first bytes, because a file name may be wrong; ``None`` if it is not audio."""
    if head[:4] in {b"RIFF", b"RIFX", b"RF64"} and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[4:8] == b"ftyp":
        return "audio/mp4"
    return next(
        (content_type for signature, content_type in _CONTENT_TYPES.items() if head.startswith(signature)), None
    )


class UnsatisfiableRangeError(ValueError):
    """A range begins after the end."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """
    Parse a ``Range`` header into the first byte and the byte after the last; ``None`` to send the whole file.

    :param header: its value; several ranges, or an invalid header, may be ignored (RFC 9110)
    :param size: bytes of the file
    :raises UnsatisfiableRangeError: if the file has none of the bytes
    """
    match = re.fullmatch(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", header or "", re.IGNORECASE)
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= size or start == stop:
        raise UnsatisfiableRangeError
    return start, stop
