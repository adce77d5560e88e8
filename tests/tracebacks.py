"""What is printed of an error: its whole chain, without the lines of source code, which hold the tests' own values."""

from __future__ import annotations

import traceback


def printed(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(line for line in lines if not line.startswith("    "))
