"""The arguments that are one of a few words."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Self

from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.redaction import quoted


class Choice(StrEnum):
    """The words of one argument, which has the name of the class: ``IfExists`` is ``if_exists``."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """
        Return the member for an argument.

        :raises InvalidRequestError: when there is none
        """
        try:
            return cls(value)  # type: ignore[arg-type]
        except ValueError:
            argument = re.sub(r"\B(?=[A-Z])", "_", cls.__name__).lower()
            raise InvalidRequestError(f"{argument} must be one of {', '.join(cls)}, not {quoted(value)}.") from None


class IfExists(Choice):
    """What to do where something is at the destination already."""

    OVERWRITE = "overwrite"
    SKIP = "skip"
    FAIL = "fail"


class OnUnknown(Choice):
    """What to do with a text of which it is unknown whether MPS has accepted it."""

    FAIL = "fail"
    RESUBMIT = "resubmit"


class OnLineFailure(Choice):
    """What the task does at its end where lines have no audio."""

    FAIL = "fail"
    CONTINUE = "continue"
