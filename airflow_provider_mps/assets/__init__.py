"""Encode paths in object storage as URIs of Airflow assets."""

from __future__ import annotations

from urllib.parse import quote

_SAFE = "/:@!$&'()*+,;="
"""Allowed in a path by RFC 3986, in addition to letters, digits and ``-._~``."""


def encode_uri(uri: str) -> str:
    """
    Percent-encode a path in object storage, in which ``%``, ``#`` and ``?`` are ordinary characters.

    Airflow on MySQL rejects an asset whose URI is not ASCII, and every Airflow drops what follows a ``#``.
    """
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{encode_path(rest)}"


def encode_path(path: str, *, may_be_encoded: bool = False) -> str:
    """
    Percent-encode the part of a URI after the scheme.

    :param path: e.g. ``/day/clip.wav``
    :param may_be_encoded: keep each ``%``
    """
    return quote(path, safe=_SAFE + "%" * may_be_encoded, errors="surrogatepass")
