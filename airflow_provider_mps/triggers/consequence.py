"""What an error about one task means for it, and for all that wait on the same connection."""

from __future__ import annotations

from enum import Enum, auto

from airflow_provider_mps.errors import ErrorClass, classify, disproves_connection, refuses_credentials


class Consequence(Enum):
    """What to do after an error."""

    SLOW_DOWN = auto()
    """Too many requests: ask more slowly, and for this task again."""
    RENEW_CREDENTIALS = auto()
    """The key was refused: it may have expired, or been replaced in the connection meanwhile."""
    BACK_OFF = auto()
    """It may pass: ask for this task later."""
    END_ALL = auto()
    """Nobody can be waited for with this connection."""
    END = auto()
    """This task cannot be waited for."""


def consequence(code: str) -> Consequence:
    """Tell what an API error code means."""
    if refuses_credentials(code):
        return Consequence.RENEW_CREDENTIALS
    match classify(code):
        case ErrorClass.THROTTLED:
            return Consequence.SLOW_DOWN
        case ErrorClass.PERMANENT:
            if "UnauthorizedOperation" in code.split("."):
                return Consequence.END  # a permission may be given for some resources, and not for others
            return Consequence.END_ALL if disproves_connection(code) else Consequence.END
        case _:
            return Consequence.BACK_OFF
