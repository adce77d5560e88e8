"""docs/emulator.md agrees with the emulator, and its example project runs."""

import argparse
import ast
import inspect
import os
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from typing import get_args

import pytest

from airflow_provider_mps.connection_form import FIELD_BEHAVIOUR
from airflow_provider_mps.emulator import fixtures
from airflow_provider_mps.emulator.__main__ import main, parse_arguments
from airflow_provider_mps.emulator.api import ACTIONS
from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.faults import AudioFault, FaultKind
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.emulator.speech import Voice
from airflow_provider_mps.emulator.tasks import FAIL_PREFIX
from airflow_provider_mps.emulator.voices import MAX_VOICES, SYSTEM_VOICES
from airflow_provider_mps.exceptions import MpsApiError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.speech.task import TaskStatus
from dev.airflow_environment import REPOSITORY, run_airflow
from tests.docs.pages import DOCS, read_blocks, read_section, read_tables

PAGE = DOCS / "emulator.md"
EMULATOR = REPOSITORY / "airflow_provider_mps" / "emulator"


def read_rows(heading):
    """Return the rows of a section's first table, without backticks and escapes."""
    table = next(read_tables(read_section(PAGE, heading)))
    return [{name: cell.replace("`", "").replace("\\|", "|") for name, cell in row.items()} for row in table]


@pytest.mark.airflow_standalone
def test_example_project_passes_its_tests(tmp_path):
    named_blocks = re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in named_blocks] == [
        "conftest.py",
        "tests/test_hello.py",
        "dags/hello.py",
        "tests/test_hello.py",
    ]
    for name, code in named_blocks:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        with file.open("a") as appended:
            appended.write(code)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST"))}
    environment["PYTHONPATH"] = str(REPOSITORY)
    exports = re.findall(r'^export (AIRFLOW_\w+)="?([^"\n]+?)"?$', read_blocks(PAGE, "sh")[0], re.MULTILINE)
    assert len(exports) == 3
    environment |= {name: value.replace("$PWD", str(tmp_path)) for name, value in exports}
    run_airflow(environment, "db", "migrate")
    done = subprocess.run(
        [sys.executable, "-m", "pytest"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "3 passed" in done.stdout, done.stdout[-5000:]


def test_command_line_table_has_every_option_and_default(monkeypatch):
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda parser, _: parser)
    options = {
        action.option_strings[0]: format_default(action.default)
        for action in parse_arguments()._actions
        if action.dest != "help"
    }
    assert {row["Option"]: row["Default"] for row in read_rows("Command-line options")} == options


def format_default(default):
    if default in (None, []):
        return "none"
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_audio_fault_table_has_every_kind():
    assert {row["Kind"] for row in read_rows("Make downloads fail")} == set(FaultKind)


@pytest.mark.parametrize("options", [Options, AudioFault])
def test_field_table_has_every_field_type_and_default(options):
    types = {"Voice": f"Literal[{', '.join(map(quote, get_args(Voice)))}]"}
    expected = [
        {"Field": f"{field.name}", "Type": types.get(field.type, field.type), "Default": quote(field.default)}
        for field in fields(options)
    ]
    rows = read_rows(f"`{options.__name__}`")
    assert [{name: row[name] for name in ("Field", "Type", "Default")} for row in rows] == expected


def quote(value):
    if value is MISSING:
        return "required"
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_running_emulator_table_has_every_argument_and_attribute():
    arguments = set(inspect.signature(RunningEmulator).parameters)
    with RunningEmulator(Options(voice="tone")) as emulator:
        attributes = {name for name in {*vars(emulator), *vars(RunningEmulator)} if not name.startswith("_")}
    kinds = {row["Name"]: row["Kind"].lower() for row in read_rows("`RunningEmulator`")}
    assert {name for name, kind in kinds.items() if "argument" in kind} == arguments
    assert {name for name, kind in kinds.items() if "attribute" in kind} == attributes


def test_fixture_table_has_every_fixture_and_changed_default(start_mps_emulator):
    defined = re.findall(r"@pytest\.fixture\ndef (\w+)", inspect.getsource(fixtures))
    rows = {row["Fixture"]: row["What it gives you"] for row in read_rows("Fixtures")}
    assert set(rows) == set(defined)
    options = start_mps_emulator().options
    for field in fields(Options):
        if (value := getattr(options, field.name)) != field.default:
            assert f"{field.name}={quote(value) if isinstance(value, str) else f'{value:g}'}" in rows["mps_emulator"]


def test_error_table_has_every_code():
    codes = {code for file in EMULATOR.glob("*.py") for code in re.findall(r'ApiError\(\s*"(.+?)"', file.read_text())}
    assert {row["Code"] for row in read_rows("Which errors does it return?")} == codes


def test_voice_table_has_every_system_voice():
    rows = [tuple(row.values()) for row in read_rows("Which voices does it have?")]
    assert rows == [
        (voice_id, voice.name, voice.gender, voice.age, ", ".join(voice.languages)) for voice_id, voice in SYSTEM_VOICES
    ]


def test_page_names_every_action():
    named = set(re.findall(r"`(\w+)`", read_section(PAGE, "What does the emulator do like MPS?")))
    assert set(ACTIONS) <= named
    assert f"holds {MAX_VOICES} cloned and designed voices" in PAGE.read_text()


def test_connection_table_has_printed_connection(monkeypatch, capsys):
    """The printed connection, the one on the page and the fields for the form are the same."""
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    main(["--port", "0", "--voice", "tone"])
    printed = re.search(r"export AIRFLOW_CONN_MPS_DEFAULT='(.*)'", capsys.readouterr().out)[1]
    (shown,) = re.findall(r"export AIRFLOW_CONN_MPS_DEFAULT='(.*)'", PAGE.read_text())
    assert re.sub(r":\d+/", ":8790/", printed) == shown
    labels = {"Connection Type": "Tencent Cloud MPS", "Port": "8790"}
    values = re.fullmatch(r"tencent-mps://(.*):(.*)@(.*):8790/(.*)\?.*", shown).groups()
    names = [FIELD_BEHAVIOUR["relabeling"][name] for name in ("login", "password", "host", "schema")]
    rows = read_rows("Start the emulator by hand")
    assert {row["Field"]: row["Value"] for row in rows} == labels | dict(zip(names, values, strict=True))


def test_failures_are_caused_as_documented(start_mps_emulator, mps_emulator, monkeypatch):
    names = {"start_mps_emulator": start_mps_emulator, "monkeypatch": monkeypatch, "mps_emulator": mps_emulator}
    rows = read_rows("Test how the DAG fails")
    assert FAIL_PREFIX in rows[0]["How to cause it"]
    assert FAIL_PREFIX in rows[1]["How to cause it"]
    task_id = MpsHook().submit_voice_design(f"{FAIL_PREFIX} A deep voice", "Narrator")
    assert MpsHook().describe_voice_design(task_id).status is TaskStatus.FAIL
    task_id = MpsHook().submit_text_to_speech(f"{FAIL_PREFIX} Hello.", "voice-1")
    assert MpsHook().describe_text_to_speech_task(task_id).status is TaskStatus.FAIL
    found = {}
    for row in rows[2:]:
        started = eval(row["How to cause it"], {**names, "AudioFault": AudioFault})
        found[row["Failure"]] = started and started.options
        if row["Failure"] in {"MPS rejects the key.", "MPS cannot be reached."}:
            with pytest.raises(MpsApiError):
                MpsHook().submit_text_to_speech("Hello.", "voice-1")
    assert found["The synthesis takes ten minutes."].synthesis_time == 600
    assert found["MPS throttles calls."].rate_limit == 1


def test_emulator_imports_nothing_of_the_provider():
    for file in EMULATOR.rglob("*.py"):
        for name in find_imports(file.read_text()):
            if name.startswith("airflow"):
                assert name.startswith("airflow_provider_mps.emulator."), (file, name)


def find_imports(source):
    """Yield the full name of everything that a module imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert not getattr(node, "level", 0), "a relative import"
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            yield from (f"{module}{each.name}" for each in node.names)
