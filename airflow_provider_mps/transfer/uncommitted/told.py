"""What a store tells of a file that it has just been given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Told:
    """As much as the store tells without reading the file back; ``None`` for what it does not."""

    size: int | None = None
    """Bytes."""
    crc64: int | None = None
    """CRC-64/XZ."""
    md5: bool = False
    """Whether the MD5 has been compared: by the store, which else would have refused, or by its client."""
    wrong: str | None = None
    """What the store's client has found wrong with it."""

    def defect(self, size: int, crc64: int) -> str | None:
        """Tell in what it differs from what was written; ``None`` where it does not."""
        if self.wrong is not None:
            return self.wrong
        if self.size is not None and self.size != size:
            return f"it has {self.size} bytes, not {size}"
        if self.crc64 is not None and self.crc64 != crc64:
            return f"its CRC-64 is {self.crc64}, not {crc64}"
        return None

    @property
    def what(self) -> str:
        """What was told, for the log."""
        told = ["size"] * (self.size is not None) + ["CRC-64"] * (self.crc64 is not None) + ["MD5"] * self.md5
        return " and ".join(told) or "nothing"
