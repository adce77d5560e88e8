"""What Airflow's assets know of this provider's URIs."""

from __future__ import annotations

from urllib.parse import quote

_SAFE = "/:@!$&'()*+,;="
"""What RFC 3986 allows in a path beside letters, digits and ``-._~``."""


def encode_uri(uri: str) -> str:
    """
    Percent-encode the text of a path in object storage, in which ``%``, ``#`` and ``?`` are ordinary characters.

    Airflow on MySQL refuses an asset whose URI is not ASCII, and every Airflow cuts off what follows a ``#``.
    """
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{encode_path(rest)}"


def encode_path(path: str, *, may_be_encoded: bool = False) -> str:
    """
    Percent-encode what follows the scheme.

    :param path: e.g. ``/day/clip.wav``
    :param may_be_encoded: leave each ``%`` as it is
    """
    return quote(path, safe=_SAFE + "%" * may_be_encoded, errors="surrogatepass")
