"""Who may call: the emulator's own keys, and the temporary ones that its STS hands out."""

from __future__ import annotations

import secrets
from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """A SecretId with what belongs to it."""

    secret_id: str
    secret_key: str
    token: str | None = None
    expires_at: float | None = None
    """Seconds since 1970; ``None`` for never."""


class KeyRing:
    """
    Knows the keys by SecretId.

    :param key: the one that the emulator starts with
    """

    def __init__(self, key: Key) -> None:
        self._keys = {key.secret_id: key}

    def find(self, secret_id: str) -> Key | None:
        """Return the key, expired or not."""
        return self._keys.get(secret_id)

    def issue_temporary(self, expires_at: float) -> Key:
        """Make a key that works with its token, until ``expires_at``."""
        key = Key(f"AKIDtmp{secrets.token_hex(8)}", secrets.token_hex(16), secrets.token_hex(24), expires_at)
        self._keys[key.secret_id] = key
        return key
