"""What a storage server's answer means for a download that may be half done. Nothing here does I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CRC_HEADER = "x-cos-hash-crc64ecma"
"""CRC-64/XZ of the whole object as a decimal number, as Tencent's COS sends it with most objects."""


@dataclass(frozen=True)
class Source:
    """What the server told of the audio when it sent it from the start."""

    length: int | None = None
    """Bytes."""
    crc64: int | None = None
    etag: str = ""

    framed: bool = False
    """Whether it is sent in chunks, of which the last says that it is."""
    content_type: str | None = None
    """``None`` where the server tells none, or only that it is bytes."""

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Source:
        """Read the headers of an answer that holds the whole audio."""
        return cls(
            _number(headers.get("Content-Length")),
            crc64_of(headers),
            headers.get("ETag", ""),
            headers.get("Transfer-Encoding", "").lower() == "chunked",
            _content_type(headers.get("Content-Type", "")),
        )

    @property
    def can_be_checked(self) -> bool:
        """Whether audio that was cut off can be told from the whole at all."""
        return self.framed or self.length is not None or self.crc64 is not None

    @property
    def can_resume(self) -> bool:
        """Whether a rest can be recognised as the rest of the same audio: by its length and a strong ETag."""
        return self.length is not None and self.etag.startswith('"') and self.etag.isascii()

    def range_headers(self, received: int) -> dict[str, str]:
        """Return the headers that ask for what is missing, or for the whole where the audio has changed."""
        return {"Range": f"bytes={received}-", "If-Range": self.etag} if received else {}

    def defect(self, received: int, crc64: int) -> str | None:
        """Tell what is wrong with what was received; ``None`` where it is the audio."""
        if not received:
            return "the audio is empty"
        if self.length is not None and received != self.length:
            return f"{received} of {self.length} bytes arrived"
        if self.crc64 is not None and crc64 != self.crc64:
            return f"the CRC-64 is {crc64}, not {self.crc64} as the server tells it"
        return None

    @property
    def checks(self) -> str:
        """What the audio can be checked by, for the log."""
        checks = ["length"] * (self.length is not None) + ["CRC-64"] * (self.crc64 is not None)
        return " and ".join(checks) or "its last chunk, for the server told neither length nor checksum"


class Verdict(StrEnum):
    """What to do with an answer."""

    WHOLE = "it sends the whole audio"
    REST = "it sends the rest"
    LINK_REFUSED = "the link was refused"
    RANGE_REFUSED = "it does not send the range that was asked for"
    TRY_AGAIN = "it failed in a way that may pass"
    REFUSED = "it refused"


def judge(status: int, headers: Mapping[str, str], received: int, source: Source) -> Verdict:
    """
    Judge an answer by its status and headers.

    :param received: bytes of the audio that are there already
    :param source: what was told of the audio when those were sent
    """
    if status == HTTPStatus.OK:
        return Verdict.WHOLE
    if status == HTTPStatus.PARTIAL_CONTENT:
        return Verdict.REST if _is_rest(headers, received, source) else Verdict.RANGE_REFUSED
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return Verdict.RANGE_REFUSED
    if status in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
        return Verdict.LINK_REFUSED
    passing = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in passing:
        return Verdict.TRY_AGAIN
    return Verdict.REFUSED


def _is_rest(headers: Mapping[str, str], received: int, source: Source) -> bool:
    match = re.fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", headers.get("Content-Range", ""), re.ASCII)
    if match is None:
        return False
    first, last, length = map(int, match.groups())
    # A server may answer a range without looking at If-Range.
    same = headers.get("ETag", source.etag) == source.etag
    crc64 = crc64_of(headers)
    same = same and (crc64 is None or crc64 == source.crc64)
    return same and received > 0 and first == received and length == source.length and last == length - 1


def crc64_of(headers: Mapping[str, str]) -> int | None:
    """Return the CRC-64/XZ that COS tells of an object."""
    return _number(headers.get(CRC_HEADER))


def _content_type(header: str) -> str | None:
    kind = header.partition(";")[0].strip().lower()
    known = re.fullmatch(r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}", kind) and not kind.endswith("/octet-stream")
    return kind if known else None


def _number(header: str | None) -> int | None:
    return int(header) if header and re.fullmatch(r"\d{1,20}", header, re.ASCII) else None
