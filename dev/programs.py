"""Where programs are that this project runs beside Python's own."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def find_program(name: str) -> str | None:
    """
    Return a program's path; ``None`` where it is not installed.

    :param name: on PATH, beside this Python, or where Debian keeps Postgres's own
    """
    places = [Path(sys.executable).parent, *Path("/usr/lib/postgresql").glob("*/bin")]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, places)))
