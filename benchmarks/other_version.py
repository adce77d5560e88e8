"""Measure another version of this package, from a checkout, in the Python environment of this one."""

from __future__ import annotations

import os
import tomllib
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator


def add_beside_option(parser: ArgumentParser) -> None:
    """Add the option ``--beside`` to a benchmark."""
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help="checkout of another version to measure, too")


@contextmanager
def make_environment(checkout: Path) -> Iterator[dict[str, str]]:
    """
    Make environment variables with which a Python process imports the package of a checkout.

    Airflow loads the modules that the entry points of an installed package name. The checkout's may have other names,
    so a temporary folder holds the metadata of the checkout.
    """
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    with TemporaryDirectory() as folder:
        metadata = Path(folder, "airflow_provider_mps-0.dist-info")
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n")
        lines = []
        for group, entries in project["entry-points"].items():
            lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
        (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
        # Without a safe path, `python -c` would import this version from the working directory.
        yield {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{checkout.resolve()}", "PYTHONSAFEPATH": "1"}
