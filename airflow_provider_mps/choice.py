"""What an argument may be, where it is one of a few words."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Self

from airflow_provider_mps.errors import InvalidRequestError


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
        except ValueError as error:
            argument = re.sub(r"\B(?=[A-Z])", "_", cls.__name__).lower()
            raise InvalidRequestError(f"{argument} must be one of {', '.join(cls)}, not {value!r:.100}.") from error
