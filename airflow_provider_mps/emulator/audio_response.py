"""Responses of the emulated COS storage: the audio, or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import FileResponse, Response

if TYPE_CHECKING:
    from airflow_provider_mps.emulator.tasks import Audio

AUDIO_PATH = "/async_dubbing/{name}.{audio_format}"
MOVED_PATH = "/async_dubbing/moved/{name}.{audio_format}"
"""Target of a redirect."""
MEDIA_TYPES = {".mp3": "audio/mpeg"}
CRC_HEADER = "x-cos-hash-crc64ecma"


def make_error_response(status: int, code: str, message: str) -> Response:
    """Make an error response as COS does, in XML."""
    xml = f"<?xml version='1.0' encoding='utf-8' ?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(xml, status, media_type="application/xml")


class AudioResponse(FileResponse):
    """An audio, whole or the requested range, with length, ETag and CRC-64."""

    chunk_size = 1024 * 1024  # five times faster than Starlette's 64 KiB, since each chunk changes threads

    def __init__(self, audio: Audio) -> None:
        # FileResponse adds Content-Length and Accept-Ranges, and handles Range and If-Range.
        headers = {"ETag": f'"{audio.crc64:016x}"', CRC_HEADER: str(audio.crc64)}
        super().__init__(audio.path, media_type=MEDIA_TYPES.get(audio.path.suffix, "audio/wav"), headers=headers)
