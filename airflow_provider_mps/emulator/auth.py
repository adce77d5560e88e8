"""
Verify TC3-HMAC-SHA256, the signature of every request.

https://www.tencentcloud.com/document/product/1041/33693
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


ALGORITHM = "TC3-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential=(?P<secret_id>[^/\s,]+)/(?P<date>[^/\s,]+)/(?P<service>[^/\s,]+)/tc3_request,"
    r"\s*SignedHeaders=(?P<signed_headers>[^\s,]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True)
class Authorization:
    """The parts of an ``Authorization`` header."""

    secret_id: str
    date: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str

    @classmethod
    def parse(cls, header: str) -> Authorization | None:
        """Parse the header; ``None`` if it does not have the documented form."""
        match = _AUTHORIZATION.fullmatch(header.strip())
        if match is None:
            return None
        signed_headers = tuple(match["signed_headers"].lower().split(";"))
        return cls(match["secret_id"], match["date"], match["service"], signed_headers, match["signature"])


def sign(
    secret_key: str,
    *,
    service: str,
    timestamp: int,
    signed_headers: tuple[str, ...],
    headers: Mapping[str, str],
    body: bytes,
    method: str = "POST",
    path: str = "/",
    query: str = "",
) -> str:
    """
    Compute the signature of a request, as 64 hexadecimal digits.

    :param timestamp: seconds since 1970, as in ``X-TC-Timestamp``
    :param signed_headers: lower-case names, in the order of ``SignedHeaders``
    :param headers: values by lower-case name, at least of the signed ones
    :param body: the request's body, exactly as sent
    """
    date = datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d")
    canonical_request = "\n".join(
        [
            method,
            path,
            query,
            *(f"{name}:{headers.get(name, '').strip().lower()}" for name in signed_headers),
            "",
            ";".join(signed_headers),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    to_sign = "\n".join(
        [
            ALGORITHM,
            str(timestamp),
            f"{date}/{service}/tc3_request",
            hashlib.sha256(canonical_request.encode()).hexdigest(),
        ]
    )
    key = f"TC3{secret_key}".encode()
    for part in (date, service, "tc3_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


@dataclass(frozen=True)
class Key:
    """A SecretId with its SecretKey, token and expiry."""

    secret_id: str
    secret_key: str
    token: str | None = None
    expires_at: float | None = None
    """Seconds since 1970; ``None``: never."""


class KeyStore:
    """
    The accepted keys, by SecretId.

    :param key: the key from the emulator's options
    """

    def __init__(self, key: Key) -> None:
        self._keys = {key.secret_id: key}

    def find(self, secret_id: str) -> Key | None:
        """Return a key, expired or not."""
        return self._keys.get(secret_id)

    def issue_temporary(self, expires_at: float) -> Key:
        """Make a temporary key, valid with its token until ``expires_at``."""
        key = Key(f"AKIDtmp{secrets.token_hex(8)}", secrets.token_hex(16), secrets.token_hex(24), expires_at)
        self._keys[key.secret_id] = key
        return key
