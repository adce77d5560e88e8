"""The pages about errors name every code and exception, quote what the code says, and their DAGs run."""

import ast
import inspect
import json
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from airflow.configuration import conf, retrieve_configuration_description
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps import error_codes, exceptions
from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.error_codes import ERROR_CODES, ErrorClass, classify
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator
from airflow_provider_mps.storage.deadline import DEFAULT_TRANSFER_TIMEOUT_SECONDS
from dev.airflow_environment import REPOSITORY
from tests.answers import GATEWAY
from tests.batching import Clips, line, run_batch, set_lease_times, submits, write_manifest
from tests.docs.pages import DOCS, page_id, read_blocks, read_section, read_tables
from tests.faulty_emulator import FaultyEmulator
from tests.scripted_server import ScriptedServer

ERROR_CODES_PAGE = DOCS / "error-codes.md"
UNKNOWN_OUTCOME = DOCS / "unknown-outcome.md"
NAMES = ("error-codes", "failures", "unknown-outcome", "billing", "limitations")
PAGES = [DOCS / f"{name}.md" for name in NAMES]
PACKAGE = REPOSITORY / "airflow_provider_mps"
FAMILIES = {"InternalError", "FailedOperation", "ResourceUnavailable", "ResourceInsufficient"}
"""Documented by Tencent, and without an entry in ERROR_CODES: their outcome is unknown."""
CONSTANTS = {
    value
    for name, value in vars(error_codes).items()
    if name.isupper() and type(value) is str and re.fullmatch(r"[A-Z][\w.]+", value)
}
EXCEPTIONS = {
    name: cls
    for name, cls in vars(exceptions).items()
    if inspect.isclass(cls) and issubclass(cls, BaseException) and cls.__module__ == exceptions.__name__
}


def read_rows(*first_columns):
    """Return the rows of all tables whose first column has one of these names, each with the text around its table."""
    rows = []
    for heading in re.findall(r"^## (.+)$", ERROR_CODES_PAGE.read_text(), re.MULTILINE):
        section = read_section(ERROR_CODES_PAGE, heading)
        for table in read_tables(section):
            rows += [(row, section) for row in table if next(iter(row)) in first_columns]
    return rows


CODE_ROWS = read_rows("Code")
MESSAGE_ROWS = read_rows("Exception", "Message")


def get_name(row):
    return re.match(r"`?(\w[\w.]*)", next(iter(row.values())))[1]


def row_id(value):
    return next(iter(value.values())) if isinstance(value, dict) else "section"


@cache
def read_message_pieces():
    """Return the constant pieces of all strings in the package."""
    pieces = []
    for path in PACKAGE.rglob("*.py"):
        if "emulator" not in path.parts:
            nodes = ast.walk(ast.parse(path.read_text()))
            pieces += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [" ".join(piece.split()) for piece in pieces]


def split_message(quote):
    """Return the sentences of a quoted message, split at its placeholders such as ``<TaskId>``."""
    pieces = re.split(r"<[^<>]+>|(?<=[.:;]) ", quote)
    return [piece.strip(" .:;()'") for piece in pieces if len(piece.strip(" .:;()'")) > 3]


def test_every_error_code_has_exactly_one_row():
    rows = Counter(get_name(row) for row, _ in CODE_ROWS)
    assert set(rows.values()) == {1}
    assert {*ERROR_CODES, *CONSTANTS, *FAMILIES} <= set(rows)


def test_every_exception_has_exactly_one_row():
    rows = Counter(
        get_name(row) for row, section in MESSAGE_ROWS if section == read_section(ERROR_CODES_PAGE, "Exceptions")
    )
    assert rows == Counter(EXCEPTIONS.keys())


@pytest.mark.parametrize(("row", "section"), CODE_ROWS, ids=row_id)
def test_code_row_quotes_the_advice_of_the_code(row, section):
    shown = str(exceptions.make_api_error(get_name(row), "message", "1")).partition("(RequestId 1).")[2]
    assert row["What you see"] == (shown.strip() or "No advice.")


@pytest.mark.parametrize(("row", "section"), CODE_ROWS, ids=row_id)
def test_code_row_or_its_section_names_the_class(row, section):
    code_class = classify(get_name(row)).value
    named = [other.value for other in ErrorClass if f"class *{other.value}*" in row["Cause"]]
    if named:
        assert named == [code_class]
    else:
        introduction = section.partition("\n|")[0]
        default = re.search(r"^Class: (\w[\w ]*?)[,.]", introduction.strip())
        assert code_class in (default[1] if default else introduction)


def test_class_table_agrees_with_the_retry_policy():
    (table,) = read_tables(read_section(ERROR_CODES_PAGE, "What is retried, and what may be billed twice?"))
    assert [(row["Class"], row["`ErrorClass`"]) for row in table] == [
        (error_class.value, f"`{error_class.name}`") for error_class in ErrorClass
    ]
    for row in table:
        error_class = ErrorClass(row["Class"])
        query, submit, billed = list(row.values())[2:]
        for cell, can_retry in ((query, error_codes.can_retry_query), (submit, error_codes.can_retry_submit)):
            expected = "Yes" if can_retry(error_class) else "No"
            if error_class is ErrorClass.CREDENTIALS_EXPIRED:
                expected = "Yes, with refreshed credentials"
            assert cell == expected
        assert billed.strip("*").startswith("Yes") == (error_class is ErrorClass.OUTCOME_UNKNOWN)


@pytest.mark.parametrize(("row", "section"), MESSAGE_ROWS, ids=row_id)
def test_quoted_message_is_one_of_the_package(row, section):
    quotes = [quote for quote in re.findall(r"`([^`]+)`", row["What you see"]) if " " in quote]
    assert quotes
    for quote in quotes:
        for piece in split_message(quote):
            assert any(piece in known for known in read_message_pieces()), piece


def find_raised_messages():
    """Yield the file, the class and the constant text of each message with which the package makes an exception."""
    classes = {"AirflowException", "AirflowFailException", "AirflowTaskTimeout", *EXCEPTIONS} - {"InvalidRequestError"}
    # Sorted, so that all workers of pytest-xdist collect the same tests in the same order.
    for path in sorted(PACKAGE.rglob("*.py")):
        if not {"emulator", "player"} & set(path.parts):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in classes and node.args:
                    constants = [part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
                    text = " ".join(" ".join(str(part) for part in constants).split())
                    if text.count(" ") > 3:
                        yield pytest.param(text, id=f"{path.name}-{node.lineno}-{node.func.id}")


@pytest.mark.parametrize("text", find_raised_messages())
def test_every_raised_message_is_quoted_on_the_page(text):
    quotes = [quote for row, _ in MESSAGE_ROWS for quote in re.findall(r"`([^`]+)`", row["What you see"])]
    pieces = [piece for quote in quotes for piece in split_message(quote) if piece.count(" ") > 1]
    assert any(piece in text for piece in pieces), text


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exception_row_says_whether_airflow_retries(name):
    (row,) = [row for row, _ in MESSAGE_ROWS if next(iter(row.values())) == f"`{name}`"]
    if issubclass(EXCEPTIONS[name], AirflowFailException):
        assert "Airflow does not retry" in row["Cause"]
    else:
        assert "does not retry" not in row["Cause"]


ADOPT = next(block for block in read_blocks(UNKNOWN_OUTCOME, "python") if "text_to_speech_adopt" in block)


def test_adopt_dag_with_found_task_id_stores_audio_without_submit(run_dag, start_emulator, tmp_path):
    app = FaultyEmulator(Options(synthesis_time=0.0, voice="tone"))
    start_emulator(app)
    task_id = MpsHook().submit_text_to_speech("Hello.", "voice-1")
    Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], "text_to_speech_adopt.py").write_text(f"{ADOPT}\ndag = wait.dag\n")
    destination = f"file://{tmp_path}/clip.wav"
    run = run_dag("text_to_speech_adopt", "dag", mps_task_id=task_id, destination=destination)
    assert run.tasks == {"wait": ("success", 1), "store": ("success", 1)}
    assert run.xcom("store") == destination
    assert (tmp_path / "clip.wav").read_bytes().startswith(b"RIFF")
    assert submits(app) == 1


def test_quoted_unknown_outcome_is_what_submit_raises(connect):
    (quoted,) = read_blocks(UNKNOWN_OUTCOME, "text")
    with ScriptedServer(GATEWAY) as server:
        connect(server.connection_uri())
        submit = TextToSpeechOperator(task_id="submit", text="Hello world.", voice_id="voice-1")
        with pytest.raises(AirflowFailException) as caught:
            submit.execute({})
    assert mask_times(str(caught.value)) == mask_times(quoted.strip())


def mask_times(text):
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:+]+\d", "<time>", text)


@pytest.fixture
def unknown_line(start_emulator, connect, tmp_path, monkeypatch):
    """Run a batch of one line that MPS accepts, but whose response comes after the connection's timeout."""
    set_lease_times(monkeypatch.setattr)
    app = FaultyEmulator(Options(synthesis_time=0.0, voice="tone"))
    uri = start_emulator(app).connection_uri
    connect(f"{uri}&timeout=1")
    app.response_delay = 3
    manifest, clips = write_manifest(tmp_path / "manifest.jsonl", [line(1)]), Clips(f"file://{tmp_path}/clips/")
    with pytest.raises(AirflowFailException, match="Unknown lines are not submitted again"):
        run_batch(manifest, clips.destination)
    app.response_delay = 0
    connect(uri)
    assert clips.statuses() == {"unknown": 1}
    assert clips.summary()["finished"]
    (task_id,) = app.app.state.tasks._tasks
    return app, manifest, clips, task_id


def test_unknown_line_with_task_id_is_stored_without_submit(unknown_line):
    app, manifest, clips, task_id = unknown_line
    (clips.root / "results.jsonl").write_text(
        json.dumps({**clips.rows()[0], "status": "processing", "TaskId": task_id}) + "\n"
    )
    assert run_batch(manifest, clips.destination, max_tries=1)["stored"] == 1
    assert submits(app) == 1
    clips.require_true()


@pytest.mark.parametrize("way", ["pending", "resubmit", "clear"])
def test_unknown_line_is_submitted_only_if_user_says_so(unknown_line, way):
    app, manifest, clips, _ = unknown_line
    options = {"on_unknown": "resubmit"} if way == "resubmit" else {}
    if way == "pending":
        (clips.root / "results.jsonl").write_text(json.dumps({**clips.rows()[0], "status": "pending"}) + "\n")
    if way == "clear":
        with pytest.raises(AirflowFailException):
            run_batch(manifest, clips.destination, max_tries=1)
    else:
        assert run_batch(manifest, clips.destination, max_tries=1, **options)["stored"] == 1
    assert submits(app) == (1 if way == "clear" else 2)


def test_removed_unknown_line_raises_an_error(unknown_line):
    _, manifest, clips, _ = unknown_line
    (clips.root / "results.jsonl").write_text("")
    with pytest.raises(exceptions.DestinationError, match="restore it"):
        run_batch(manifest, clips.destination, max_tries=1)


def test_wait_after_submit_was_marked_as_success_fails_without_task_id(emulator):
    with pytest.raises(exceptions.InvalidRequestError, match=re.escape("there is no task to query")):
        MpsHook().describe_text_to_speech_task(None)
    assert "there is no task to query" in UNKNOWN_OUTCOME.read_text()


OPTION = r"`\[(?P<section>\w+)\] (?P<option>\w+)`"
DEFAULT = r"(?P<default>[\w,]+)"
STATED_DEFAULTS = (
    rf"{OPTION}[^.|`]*\(default: {DEFAULT}",
    rf"{DEFAULT} \w+ by default \({OPTION}\)",
    rf"{OPTION}: {DEFAULT} \w+ by default",
    rf"{DEFAULT}: Airflow's default {OPTION}",
)
OPTION_PAGES = [
    page for page in (*PAGES, DOCS / "batches.md", DOCS / "batch-recovery.md") if re.search(OPTION, page.read_text())
]


@pytest.mark.parametrize("page", OPTION_PAGES, ids=page_id)
def test_airflow_options_exist_and_have_the_stated_defaults(page):
    text = page.read_text()
    stated = [match.groupdict() for pattern in STATED_DEFAULTS for match in re.finditer(pattern, text)]
    assert len(stated) == len(re.findall(OPTION, text)), "an option is named without its default"
    options = retrieve_configuration_description(include_providers=False)
    for each in stated:
        default = options[each["section"]]["options"][each["option"]]["default"].lower()
        spellings = {default, {"true": "on", "false": "off"}.get(default)}
        assert each["default"].replace(",", "") in spellings, each["option"]
        assert conf.has_option(each["section"], each["option"])


def test_pages_with_defaults_of_options_are_found():
    assert {page.name for page in OPTION_PAGES} >= {"billing.md", "limitations.md", "batches.md", "batch-recovery.md"}


def test_stated_transfer_timeout_is_the_default():
    assert f"default: {DEFAULT_TRANSFER_TIMEOUT_SECONDS:,.0f} seconds" in ERROR_CODES_PAGE.read_text()


def test_clear_table_has_a_row_for_an_unknown_outcome():
    (clears,) = read_tables(read_section(DOCS / "billing.md", "What a clear costs"))
    (unknown,) = [row for row in clears if "unknown outcome" in row["You clear"]]
    assert all("both are billed" in cell for name, cell in unknown.items() if name != "You clear")
