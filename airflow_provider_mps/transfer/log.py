"""What is asked of a log where an operator hands over its own, which is no ``logging.Logger``."""

from __future__ import annotations

from typing import Any, Protocol


class Log(Protocol):
    """Takes what a transfer has to tell."""

    def info(self, message: str, /, *args: Any) -> Any:
        """Log a step."""

    def warning(self, message: str, /, *args: Any) -> Any:
        """Log what went wrong and is being mended."""
