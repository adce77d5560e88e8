"""What kind of audio a file is, so that a browser plays it."""

from __future__ import annotations

import mimetypes

_USUAL = {".wav": "audio/wav", ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".ogg": "audio/ogg", ".flac": "audio/flac"}
"""Python's own table depends on the machine, and has ``audio/x-wav``."""


def choose_content_type(told: str | None, *names: str) -> str | None:
    """
    Return what to store the audio as.

    :param told: by the server that it comes from
    :param names: of the file, of which the first one that tells its kind decides, where the server does not
    """
    if told:
        return told
    for name in names:
        suffix = name[name.rfind(".") :].lower() if "." in name else ""
        guessed = _USUAL.get(suffix) or mimetypes.guess_type(f"audio{suffix}")[0]
        if guessed:
            return guessed
    return None
