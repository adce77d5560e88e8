"""A sample of a voice to clone: audio bytes, or a URL from which MPS downloads them."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field

from airflow_provider_mps.exceptions import InvalidRequestError

MAX_SAMPLE_BYTES = 7 * 1024 * 1024
"""With the other parameters, the base64 of these bytes is just below 10 MB, the limit of a request."""
_SIGNATURE = re.compile(
    rb"RIFF....WAVE|RF64....WAVE|ID3|\xff[\xe2\xe3\xf0-\xf5\xf8-\xfd]|fLaC|OggS|....ftyp|FORM....AIF[FC]|#!AMR|\x1aE\xdf\xa3|caff",
    re.DOTALL,
)
"""How WAV, MP3, AAC, FLAC, Ogg, M4A, AIFF, AMR, WebM and CAF files begin."""
_WAV_HEADER_BYTES = 44


@dataclass(frozen=True)
class AudioSample:
    """The audio bytes of a sample, or its URL; exactly one of them is set."""

    data: bytes | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)
    """An http or https URL, which may be signed, so it is not in the repr or in logs."""

    @classmethod
    def from_bytes(cls, data: bytes, source: str = "audio") -> AudioSample:
        """
        Check that bytes are audio which fits into a request.

        :param source: the argument or file that holds the bytes, for the error
        :raises InvalidRequestError: if they are too many, or are not audio
        """
        if len(data) > MAX_SAMPLE_BYTES:
            raise InvalidRequestError(
                f"{source} has more than {MAX_SAMPLE_BYTES} bytes, the most that fits into a request: no voice was "
                "created. Shorten the sample to 10 to 20 seconds, or pass an http(s) URL that MPS can download."
            )
        is_empty_wav = data[8:12] == b"WAVE" and len(data) <= _WAV_HEADER_BYTES
        if not is_audio(data) or is_empty_wav:
            problem = "is empty" if not data or is_empty_wav else "has no known audio format"
            raise InvalidRequestError(
                f"{source} {problem}: no voice was created. Use e.g. a WAV, MP3, M4A, FLAC or Ogg file with 10 to 20 "
                "seconds of one speaker."
            )
        return cls(data=data)

    @property
    def digest(self) -> str:
        """A digest of the bytes, or of the URL without its query, which changes with each signature."""
        content = self.data if self.data is not None else str(self.url).partition("?")[0].encode()
        return hashlib.sha256(content).hexdigest()

    def to_api(self) -> dict[str, str]:
        """Return the parameter of ``CloneVoice``."""
        if self.data is None:
            return {"AudioUrl": str(self.url)}
        return {"AudioData": base64.b64encode(self.data).decode()}


def is_audio(data: bytes) -> bool:
    """Return whether bytes begin as an audio file does."""
    return _SIGNATURE.match(data) is not None


def is_url(audio: str) -> bool:
    """Return whether an argument is an http or https URL, which MPS downloads itself."""
    return re.match(r"\s*https?://[^\s/?#]", audio, re.IGNORECASE) is not None
