"""An audio in object storage, opened for reading, and nothing that is no audio."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, ObjectStoragePath
from airflow.sdk.io import get_fs, has_fs

from airflow_provider_mps.redaction import keep_links_out_of_logs
from airflow_provider_mps.store_errors import lacks_permission

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

BLOCK = 1024 * 1024
"""Bytes that are read at once."""
_S3_SCHEMES = {"s3", "s3a", "s3n"}
_MOST_FILESYSTEMS = 32
_filesystems: dict[tuple[str, str | None], tuple[bytes, Any]] = {}
_CONTENT_TYPES = {
    b"ID3": "audio/mpeg",
    # Frames of MPEG-2.5, -2 and -1, each layer III, with a CRC and without one.
    **dict.fromkeys((b"\xff\xe2", b"\xff\xe3", b"\xff\xf2", b"\xff\xf3", b"\xff\xfa", b"\xff\xfb"), "audio/mpeg"),
    # ADTS frames of MPEG-4 and -2, likewise.
    **dict.fromkeys((b"\xff\xf0", b"\xff\xf1", b"\xff\xf8", b"\xff\xf9"), "audio/aac"),
    b"fLaC": "audio/flac",
    b"OggS": "audio/ogg",
}


class NoAudioError(Exception):
    """There is no audio to be heard; the message tells why, to whoever looks at the view."""


@dataclass(frozen=True)
class AudioObject:
    """An audio as it is now."""

    path: str
    size: int
    """Bytes."""
    content_type: str
    etag: str
    """Another one when the object has changed."""
    _fs: Any = field(repr=False, compare=False)
    _key: str = field(repr=False, compare=False)

    @classmethod
    def find(cls, path: str) -> AudioObject:
        """
        Look up what is at a path.

        :param path: the text of an ``ObjectStoragePath``
        :raises NoAudioError: when it is not there, cannot be read, or is no audio
        """
        # Anybody who may write XComs can write a path: what is read is where audio can be stored, and is audio.
        scheme = path.partition("://")[0] if "://" in path else ""
        if not has_fs(scheme):
            # It is not quoted: it may be a signed URL.
            raise NoAudioError(
                "What this task instance has returned is no place in object storage that this Airflow knows."
            )
        keep_links_out_of_logs()
        try:
            fs, key = _filesystem(path, scheme), ObjectStoragePath(path).path
            fs.invalidate_cache()
            info = fs.info(key)
            content_type = _content_type(fs.cat_file(key, start=0, end=16)) if info["type"] == "file" else None
        except FileNotFoundError as error:
            raise NoAudioError(
                f"{path} is not there any more, or not on the machine of Airflow's API server."
            ) from error
        except Exception as error:
            # Not the error's own text, not in the log either: it may quote a URL with a password or a signature.
            kinds = _kinds(error)
            log.warning("%s cannot be read: %s", path.encode(errors="backslashreplace").decode(), kinds)
            if isinstance(error, AirflowNotFoundException):
                raise NoAudioError(f"{path} cannot be read: its connection does not exist.") from error
            if lacks_permission(error):
                raise NoAudioError(f"Airflow's API server has no permission to read {path}.") from error
            raise NoAudioError(
                f"{path} cannot be read ({kinds}). Check the connection in this path, and that Airflow's API server "
                "reaches the storage."
            ) from error
        if content_type is None:
            raise NoAudioError(f"What is at {path} is no audio.")
        if not isinstance(info.get("size"), int):
            raise NoAudioError(f"The store of {path} does not tell its size, without which it cannot be played.")
        etag = hashlib.sha256(repr(sorted(info.items(), key=str)).encode()).hexdigest()[:32]
        return cls(path, info["size"], content_type, f'"{etag}"', fs, key)

    @property
    def name(self) -> str:
        """The name of its file."""
        return self._key.rpartition("/")[2]

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """
        Read some of its bytes.

        :param start: the first
        :param stop: the one behind the last
        :raises EOFError: when there are fewer than there were
        :raises OSError: when the storage cannot be read; the server logs it, so it does not quote the storage's error
        """
        for first in range(start, stop, BLOCK):
            last = min(first + BLOCK, stop)
            try:
                block = self._fs.cat_file(self._key, start=first, end=last)
            except Exception as error:  # noqa: BLE001 - each filesystem raises its own
                raise OSError(f"{self.path} cannot be read any further ({_kinds(error)})") from None
            if len(block) != last - first:
                raise EOFError(f"{self.path} has changed while it was read")
            yield block

    def open(self) -> Any:
        """Open it as a file that can seek, and reads little at a time."""
        return self._fs.open(self._key, "rb", block_size=64 * 1024, cache_type="bytes")


def _kinds(error: BaseException) -> str:
    """Return the class of an error, and of those that caused it."""
    causes = [error]
    while cause := causes[-1].__cause__:
        causes.append(cause)
    return ", caused by ".join(type(cause).__name__ for cause in causes)


def _filesystem(path: str, scheme: str) -> Any:
    """
    Return the filesystem of a path, made anew when its connection has changed.

    Airflow keeps one for each connection id for the life of a process, and where the connection is missing it goes on
    with what the machine itself may read.
    """
    conn_id = path.partition("://")[2].partition("/")[0].rpartition("@")[0] or None
    content = BaseHook.get_connection(conn_id).get_uri() if conn_id else ""
    version = hashlib.sha256(content.encode("utf-8", "replace")).digest()
    kept = _filesystems.pop((scheme, conn_id), None)
    fs = kept[1] if kept and kept[0] == version else get_fs(scheme, conn_id, _storage_options(scheme))
    _filesystems[scheme, conn_id] = (version, fs)
    while len(_filesystems) > _MOST_FILESYSTEMS:
        _filesystems.pop(next(iter(_filesystems)), None)  # the one that was not used for longest
    return fs


def _storage_options(scheme: str) -> dict[str, str]:
    """
    Return options with which a filesystem reads ranges of an object.

    Some S3 servers, such as rclone, send the checksum of the whole object with a range of it. botocore then raises
    ``FlexibleChecksumError``, unless it does not request checksums.
    """
    if scheme not in _S3_SCHEMES:
        return {}
    from botocore.config import Config  # noqa: PLC0415 - only s3:// needs it

    # Before 1.36, botocore neither has this option nor requests checksums.
    option = "response_checksum_validation"
    return {option: "when_required"} if option in Config.OPTION_DEFAULTS else {}


def _content_type(head: bytes) -> str | None:
    """Return what kind of audio begins with these bytes: the name of a file may be wrong."""
    if head[:4] in {b"RIFF", b"RIFX", b"RF64"} and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[4:8] == b"ftyp":
        return "audio/mp4"
    return next((content_type for mark, content_type in _CONTENT_TYPES.items() if head.startswith(mark)), None)
