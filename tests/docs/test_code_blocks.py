"""The code blocks of the pages run: Python against the emulator, commands as far as they can be checked."""

import ast
import json
import os
import re
import shlex
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from dev.airflow_environment import REPOSITORY
from tests.docs.pages import ALL_PAGES, page_id, read_blocks

PRELUDE = """
from airflow.providers.common.compat.sdk import DAG, Asset, AssetAlias, ObjectStoragePath, Param, dag, task
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.operators.voices import CloneVoiceOperator, DeleteVoiceOperator, DesignVoiceOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor
"""
TASKS = {
    "submit": 'TextToSpeechOperator(task_id="submit", text="Hello.", voice_id="v")',
    "wait": 'TextToSpeechTaskSensor(task_id="wait", mps_task_id="1-DubbingAsync-1")',
    "store": 'TextToSpeechToObjectStorageOperator(task_id="store", mps_task_id="1-DubbingAsync-1", destination="file:///c/")',
}
PYTHON_BLOCKS = [
    pytest.param(page, number, code, id=f"{page.name}-{number}")
    for page in ALL_PAGES
    for number, code in enumerate(read_blocks(page, "python"), 1)
]
COMMANDS = [
    pytest.param(line.strip(), id=f"{page.name}-{line.strip()[:60]}")
    for page in ALL_PAGES
    for block in read_blocks(page, "sh")
    for line in re.sub(r"\\\n|\n(?= {20})", " ", block).split("\n")
    if line.strip() and not line.strip().startswith("#")
]


def find_missing_tasks(code):
    """Return the tasks that a block uses and does not define."""
    names = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]
    defined = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    return [task for task in TASKS if task in {name.id for name in names} - defined]


@pytest.mark.parametrize(("page", "number", "code"), PYTHON_BLOCKS)
def test_python_block_runs(page, number, code, emulator, tmp_path, monkeypatch):
    """Readers copy the first block of a page as it is; later ones may use its imports and tasks."""
    monkeypatch.chdir(tmp_path)
    tasks = "\n".join(f"    {task} = {TASKS[task]}" for task in find_missing_tasks(code))
    indented = re.sub("^", "    ", code, flags=re.MULTILINE)
    in_dag = f'with DAG("page", schedule=None):\n{tasks}\n{indented}\n'
    source = code if number == 1 or "DAG(" in code or "@dag" in code else in_dag
    prelude = "" if number == 1 else PRELUDE
    exec(compile(prelude + source, page.name, "exec"), {"__name__": "docs"})


@pytest.mark.parametrize("page", ALL_PAGES, ids=page_id)
def test_json_and_yaml_blocks_parse(page):
    for block in read_blocks(page, "json"):
        json.loads(block)
    for block in read_blocks(page, "jsonl"):
        assert [json.loads(line) for line in block.strip().split("\n")]
    for block in read_blocks(page, "yaml"):
        yaml.safe_load(block)


@pytest.mark.parametrize("page", ALL_PAGES, ids=page_id)
def test_code_blocks_name_a_tested_language(page):
    languages = re.findall(r"^ *```(\w*)\n.*?^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert set(languages) <= {"python", "sh", "json", "jsonl", "csv", "ini", "yaml", "text"}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_names_what_exists(command, monkeypatch):  # noqa: C901, PLR0912
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        validate_variable(words.pop(0), monkeypatch)
    match words:
        case []:
            pass
        case ["export", variable]:
            validate_variable(variable, monkeypatch)
        case ["make", *targets]:
            makefile = (REPOSITORY / "Makefile").read_text()
            for target in targets:
                if "=" not in target:
                    assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        case ["pip", "install", *packages]:
            for package in packages:
                validate_package(package)
        case [".venv/bin/python" | "python", "-m", "pytest", *arguments]:
            for option, argument in pairwise(["", *arguments]):
                assert (
                    argument.startswith("-") or option == "-k" or (REPOSITORY / argument.partition("::")[0]).exists()
                ), argument
        case [".venv/bin/python" | "python", "-m", "airflow_provider_mps.emulator", *arguments]:
            from airflow_provider_mps.emulator.__main__ import parse_arguments

            parse_arguments(arguments)
        case [".venv/bin/twine", "upload", *_]:
            pass
        case [".venv/bin/python" | "python", "-m", module, *_] if module.startswith(("benchmarks.", "dev.")):
            assert Path(REPOSITORY, *module.split(".")).with_suffix(".py").exists(), module
        case ["airflow", *arguments]:
            from airflow.cli.cli_parser import get_parser

            get_parser().parse_args(arguments)  # exits if Airflow has no such command
        case [script] if script.startswith("."):
            if not (REPOSITORY / ".git").exists():
                pytest.skip("the source archive has only what builds and tests the package")
            assert os.access(REPOSITORY / script, os.X_OK), script
        case ["python", "-c", code]:
            compile(code, command, "exec")
        case ["pip" | "git" | "cd" | "curl" | "aws" | "tccli" | "gpg" | "pre-commit", *_]:
            pass
        case _:
            pytest.fail(f"add a check of this command: {command}")


def validate_variable(assignment, monkeypatch):
    name, _, value = assignment.partition("=")
    if name.startswith("AIRFLOW_CONN_"):
        from airflow_provider_mps.api.connection_lookup import get_mps_connection

        monkeypatch.setenv(name, value)
        if "tencent" in value:
            get_mps_connection(name.removeprefix("AIRFLOW_CONN_").lower(), None)
    elif name.startswith("AIRFLOW__"):
        from airflow.configuration import conf

        _, section, option = name.split("__")
        assert conf.has_option(section.lower(), option.lower()), name
    elif name.lower().endswith("_proxy"):
        assert not value or name.lower() == "no_proxy" or urlsplit(value).hostname, assignment


def validate_package(package):
    extras = re.fullmatch(r"(?:airflow-provider-mps|\.)\[([\w,]+)\]", package)
    if extras:
        pyproject = (REPOSITORY / "pyproject.toml").read_text()
        for extra in extras[1].split(","):
            assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE), extra
