"""Interpret the response to a download request, which may resume an earlier one. This module does no I/O."""

from __future__ import annotations

import mimetypes
import re
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


CRC_HEADER = "x-cos-hash-crc64ecma"
"""CRC-64/XZ of the whole object as a decimal number, which COS sends with most objects."""


@dataclass(frozen=True)
class AudioMetadata:
    """What the response headers say about the whole audio."""

    length: int | None = None
    """Bytes."""
    crc64: int | None = None
    etag: str = ""
    is_chunked: bool = False
    """Whether the body is sent in chunks, the last of which marks its end."""
    content_type: str | None = None
    """``None`` if the header is missing, invalid or ``application/octet-stream``."""

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> AudioMetadata:
        """Parse the headers of a response that holds the whole audio."""
        return cls(
            _parse_number(headers.get("Content-Length")),
            parse_crc64(headers),
            headers.get("ETag", ""),
            headers.get("Transfer-Encoding", "").lower() == "chunked",
            _parse_content_type(headers.get("Content-Type", "")),
        )

    @property
    def is_verifiable(self) -> bool:
        """Whether truncated audio can be distinguished from the whole."""
        return self.is_chunked or self.length is not None or self.crc64 is not None

    @property
    def can_resume(self) -> bool:
        """Whether a later range can be recognized as part of the same audio: it takes a length and a strong ETag."""
        return self.length is not None and self.etag.startswith('"') and self.etag.isascii()

    def make_range_headers(self, received: int) -> dict[str, str]:
        """Return headers that request the missing bytes, or the whole audio if it has changed."""
        return {"Range": f"bytes={received}-", "If-Range": self.etag} if received else {}

    def find_defect(self, received: int, crc64: int) -> str | None:
        """Describe how the received bytes differ from the audio; return ``None`` if they do not."""
        if not received:
            return "the audio is empty"
        if self.length is not None and received != self.length:
            return f"{received} of {self.length} bytes arrived"
        if self.crc64 is not None and crc64 != self.crc64:
            return f"the CRC-64 is {crc64}, but the server's header says {self.crc64}"
        return None

    @property
    def verification(self) -> str:
        """What the audio is verified by, for the log."""
        checks = ["length"] * (self.length is not None) + ["CRC-64"] * (self.crc64 is not None)
        return " and ".join(checks) or "its last chunk (the server sent neither length nor CRC-64)"


class ResponseAction(StrEnum):
    """What the download does with a response; the value describes the response."""

    READ_WHOLE = "the server sends the whole audio"
    READ_REST = "the server sends the rest"
    REFRESH_URL = "the signed URL was rejected"
    RESTART = "the server does not send the requested range"
    RETRY = "the server reported a transient error"
    FAIL = "the server rejected the request"


def classify_response(
    status: int, headers: Mapping[str, str], received: int, metadata: AudioMetadata
) -> ResponseAction:
    """
    Decide what to do with a response by its status and headers.

    :param received: bytes of the audio that earlier responses have brought
    :param metadata: of the audio, from the first of them
    """
    if status == HTTPStatus.OK:
        return ResponseAction.READ_WHOLE
    if status == HTTPStatus.PARTIAL_CONTENT:
        return ResponseAction.READ_REST if _is_rest(headers, received, metadata) else ResponseAction.RESTART
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return ResponseAction.RESTART
    if status in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
        return ResponseAction.REFRESH_URL
    transient = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in transient:
        return ResponseAction.RETRY
    return ResponseAction.FAIL


def _is_rest(headers: Mapping[str, str], received: int, metadata: AudioMetadata) -> bool:
    match = re.fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", headers.get("Content-Range", ""), re.ASCII)
    if match is None:
        return False
    first, last, length = map(int, match.groups())
    # A server may ignore If-Range and send a range of another version.
    has_same_etag = headers.get("ETag", metadata.etag) == metadata.etag
    has_same_crc64 = parse_crc64(headers) in {None, metadata.crc64}
    is_missing_range = received > 0 and first == received and length == metadata.length and last == length - 1
    return has_same_etag and has_same_crc64 and is_missing_range


def parse_crc64(headers: Mapping[str, str]) -> int | None:
    """Return the CRC-64/XZ that COS sends with an object."""
    return _parse_number(headers.get(CRC_HEADER))


def _parse_content_type(header: str) -> str | None:
    content_type = header.partition(";")[0].strip().lower()
    is_valid = re.fullmatch(r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}", content_type)
    return content_type if is_valid and not content_type.endswith("/octet-stream") else None


def _parse_number(header: str | None) -> int | None:
    return int(header) if header and re.fullmatch(r"\d{1,20}", header, re.ASCII) else None


_AUDIO_TYPES = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
}
"""Python's own table depends on the machine, and has ``audio/x-wav``."""


def choose_content_type(received: str | None, name: str) -> str | None:
    """Return the content type to store audio with: as received from its server, else by the suffix of the file name."""
    if received:
        return received
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    return _AUDIO_TYPES.get(suffix) or mimetypes.guess_type(f"audio{suffix}")[0]
