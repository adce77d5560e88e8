"""The reference pages describe the code: arguments, methods, attributes, errors, XComs and options."""

import ast
import dataclasses
import inspect
import json
import os
import re
import tomllib
from pathlib import Path

import attr
import pytest

from airflow_provider_mps import exceptions
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import (
    TextToSpeechOperator,
    TextToSpeechSynthesizeOperator,
    TextToSpeechToObjectStorageOperator,
)
from airflow_provider_mps.operators.track import AssembleTrackOperator
from airflow_provider_mps.operators.voices import CloneVoiceOperator, DeleteVoiceOperator, DesignVoiceOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor
from airflow_provider_mps.speech.task import TaskStatus, TextToSpeechTask
from airflow_provider_mps.speech.voices import Voice
from airflow_provider_mps.storage.lineage import SpeechCounts
from airflow_provider_mps.storage.lineage_facets import FACET_NAME, MpsCountsRunFacet
from airflow_provider_mps.triggers.batch import MAX_TASKS, TextToSpeechBatchTrigger
from airflow_provider_mps.triggers.task import REQUEUE_GRACE_SECONDS
from airflow_provider_mps.triggers.text_to_speech import TextToSpeechTaskTrigger
from dev.airflow_environment import REPOSITORY
from tests.docs.pages import DOCS, read_blocks, read_section, read_tables

OPERATORS, SENSOR, HOOK = DOCS / "operators.md", DOCS / "sensor.md", DOCS / "hook.md"
XCOMS, MANIFEST, CONFIGURATION = DOCS / "xcoms.md", DOCS / "manifest.md", DOCS / "configuration.md"

TASK_CLASSES = {
    TextToSpeechOperator: (OPERATORS, "TextToSpeechOperator"),
    TextToSpeechToObjectStorageOperator: (OPERATORS, "TextToSpeechToObjectStorageOperator"),
    TextToSpeechSynthesizeOperator: (OPERATORS, "TextToSpeechSynthesizeOperator"),
    TextToSpeechBatchOperator: (OPERATORS, "TextToSpeechBatchOperator"),
    AssembleTrackOperator: (OPERATORS, "AssembleTrackOperator"),
    CloneVoiceOperator: (OPERATORS, "CloneVoiceOperator"),
    DesignVoiceOperator: (OPERATORS, "DesignVoiceOperator"),
    DeleteVoiceOperator: (OPERATORS, "DeleteVoiceOperator"),
    TextToSpeechTaskSensor: (SENSOR, "Arguments of TextToSpeechTaskSensor"),
}
OTHER_CLASSES = {
    TextToSpeechTaskTrigger: (SENSOR, "TextToSpeechTaskTrigger"),
    TextToSpeechBatchTrigger: (SENSOR, "TextToSpeechBatchTrigger"),
    MpsHook: (HOOK, "Create a hook"),
}
ALL_CLASSES = TASK_CLASSES | OTHER_CLASSES
REQUIRED = inspect.Parameter.empty
TYPES = {"Mapping[str, Any]": "dict", "Sequence[str]": "list"}
"""What the pages call types that have a longer name in annotations."""


def name_of(value):
    return getattr(value, "__name__", None)


def unquote_code(cell):
    """Return the parts of a cell between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def read_table(page, heading, first_column):
    """Return the rows below a heading of the table whose first column has this name, by their first cell."""
    tables = [table for table in read_tables(read_section(page, heading)) if table and first_column in table[0]]
    assert tables, f"{page.name} has no table of {first_column} below {heading!r}"
    rows = {unquote_code(row[first_column])[0]: row for row in tables[0]}
    assert len(rows) == len(tables[0]), "a row is listed twice"
    return rows


def get_arguments(cls):
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {each.name: each for each in parameters if each.name != "self" and each.kind is not each.VAR_KEYWORD}


def parse_default(cell):
    """Return the default that a cell names: "`int` or `str`. Default: `None`" or "`str`. Required"."""
    _, separator, default = cell.partition("Default: ")
    if not separator:
        assert cell.endswith("Required"), cell
        return REQUIRED
    return ast.literal_eval(unquote_code(default)[0])


def spell_types(annotation):
    """Return the types of an annotation as the pages spell them."""
    if annotation.startswith("Literal["):
        return {json.dumps(choice) for choice in ast.literal_eval(annotation.removeprefix("Literal"))}
    return {TYPES.get(each, each) for each in annotation.split(" | ")} - {"None"}


@pytest.mark.parametrize("cls", ALL_CLASSES, ids=name_of)
def test_argument_table_lists_the_constructor_arguments(cls):
    assert set(read_table(*ALL_CLASSES[cls], "Argument")) == set(get_arguments(cls))


@pytest.mark.parametrize("cls", ALL_CLASSES, ids=name_of)
def test_argument_table_has_types_and_defaults_of_the_constructor(cls):
    rows = read_table(*ALL_CLASSES[cls], "Argument")
    for name, argument in get_arguments(cls).items():
        cell = rows[name]["Type and default"]
        assert parse_default(cell) == argument.default, name
        assert set(unquote_code(cell.partition(". ")[0])) == spell_types(argument.annotation), name


@pytest.mark.parametrize("cls", TASK_CLASSES, ids=name_of)
def test_templated_column_equals_template_fields(cls):
    rows = read_table(*TASK_CLASSES[cls], "Argument")
    assert {row["Templated"] for row in rows.values()} <= {"Yes", "No"}
    assert {name for name, row in rows.items() if row["Templated"] == "Yes"} == set(cls.template_fields)


@pytest.mark.parametrize("cls", TASK_CLASSES, ids=name_of)
def test_error_table_names_documented_errors_and_their_retries(cls):
    from airflow.providers.common.compat import sdk

    page, heading = (SENSOR, "Errors of the sensor") if cls is TextToSpeechTaskSensor else TASK_CLASSES[cls]
    rows = read_table(page, heading, "Error")
    of_connection = {"InvalidMpsConnectionError"} if "mps_conn_id" in get_arguments(cls) else set()
    assert {*re.findall(r":raises (\w+):", cls.__doc__)} | of_connection <= set(rows)
    never_retried = (sdk.AirflowFailException, sdk.AirflowSensorTimeout)
    for name, row in rows.items():
        error = getattr(exceptions, name, None) or getattr(sdk, name)
        assert row["Retried by Airflow"] == ("No" if issubclass(error, never_retried) else "Yes"), name


def test_sensor_page_lists_inherited_arguments_with_their_defaults():
    from airflow.providers.common.compat.sdk import BaseSensorOperator

    section = read_section(SENSOR, "Arguments of TextToSpeechTaskSensor")
    rows = {unquote_code(row["Argument"])[0]: row["Default"] for row in list(read_tables(section))[1]}
    # `mode` is in the first table; `silent_fail` concerns only unexpected exceptions.
    assert set(rows) == {"execution_timeout", *get_arguments(BaseSensorOperator)} - {"mode", "silent_fail"}
    sensor = TextToSpeechTaskSensor(task_id="wait", mps_task_id="1-DubbingAsync-1")
    for name, cell in rows.items():
        documented = re.sub(r"[`,]| seconds.*", "", cell)
        assert ast.literal_eval(documented) == getattr(sensor, name), name


def test_sensor_result_table_equals_its_xcom():
    result = TextToSpeechTask("1-DubbingAsync-1", TaskStatus.SUCCESS).to_xcom()
    assert set(read_table(SENSOR, "What does the sensor return?", "Key")) == set(result)


def test_trigger_payload_tables_equal_the_events():
    from airflow_provider_mps.exceptions import MpsApiError
    from airflow_provider_mps.polling.event import event_from_outcome

    outcomes = (TextToSpeechTask("1-DubbingAsync-1", TaskStatus.SUCCESS), MpsApiError("InternalError", "failed"))
    section = read_section(SENSOR, "TextToSpeechTaskTrigger")
    for outcome in outcomes:
        payload = "{" + ", ".join(json.dumps(key) for key in event_from_outcome(outcome)) + "}"
        assert f"| `{payload}` |" in section
    assert f"a worker {REQUEUE_GRACE_SECONDS:g} seconds after" in section
    assert f"at most the last {MAX_TASKS}" in read_section(SENSOR, "TextToSpeechBatchTrigger")


def spell_signature(method):
    """Return the arguments of a method as the page spells them, e.g. "text, *, text_lang=None, **fields"."""
    spelled = []
    parameters = [each for each in inspect.signature(method).parameters.values() if each.name not in {"self", "cls"}]
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and "*" not in spelled:
            spelled.append("*")
        stars = "**" if each.kind is each.VAR_KEYWORD else ""
        spelled.append(f"{stars}{each.name}" + (f"={each.default!r}" if each.default is not REQUIRED else ""))
    return ", ".join(spelled)


def get_own_attributes(cls):
    """Return the attributes of a class and of its bases in this package."""
    bases = [base for base in reversed(cls.__mro__) if base.__module__.startswith("airflow_provider_mps.")]
    return {name: value for base in bases for name, value in vars(base).items()}


def get_public_methods(cls):
    functions = {
        name: inspect.unwrap(getattr(cls, name)) for name in get_own_attributes(cls) if not name.startswith("_")
    }
    return {name: function for name, function in functions.items() if inspect.isroutine(function)}


def test_hook_page_lists_every_public_method_with_its_signature():
    section = read_section(HOOK, "Methods")
    tables = [table for table in read_tables(section) if "Meaning" in table[0]]
    listed = [code for table in tables for row in table for code in unquote_code(next(iter(row.values())))]
    methods = get_public_methods(MpsHook)
    assert sorted(listed) == sorted(
        [*(f"{name}({spell_signature(method)})" for name, method in methods.items()), "submit_attempt"]
    )
    assert hasattr(MpsHook(), "submit_attempt")
    coroutines = {name for name, method in methods.items() if inspect.iscoroutinefunction(method)}
    assert coroutines == {name for name in methods if name.startswith("a")}


def test_hook_page_lists_every_attribute_and_method_of_a_task():
    fields = {field.name for field in dataclasses.fields(TextToSpeechTask)}
    properties = {name for name, value in get_own_attributes(TextToSpeechTask).items() if isinstance(value, property)}
    assert set(read_table(HOOK, "TextToSpeechTask", "Attribute")) == fields | properties
    methods = {
        f"{name}({spell_signature(method)})"
        for name, method in get_public_methods(TextToSpeechTask).items()
        if name not in fields
    }
    assert set(read_table(HOOK, "TextToSpeechTask", "Method")) == methods
    rows = read_table(HOOK, "TextToSpeechTask", "`TaskStatus`")
    assert {name: unquote_code(row["Value in the API"])[0] for name, row in rows.items()} == {
        status.name: status.value for status in TaskStatus
    }


def test_hook_page_lists_every_attribute_of_a_voice():
    fields = {field.name for field in dataclasses.fields(Voice)}
    properties = {name for name, value in get_own_attributes(Voice).items() if isinstance(value, property)}
    assert set(read_table(HOOK, "Voice", "Attribute")) == fields | properties


def test_hook_page_links_to_the_table_of_error_classes():
    target = "(error-codes.md#what-is-retried-and-what-may-be-billed-twice)"
    assert target in read_section(HOOK, "Which errors does the hook retry?")
    assert target in read_table(HOOK, "Exceptions", "Attribute")["error_class"]["Meaning"]


def test_hook_page_quotes_log_messages_of_the_code():
    (table,) = read_tables(read_section(HOOK, "What does the hook log?"))
    sources = "".join(
        (REPOSITORY / "airflow_provider_mps" / name).read_text()
        for name in ("hooks/mps.py", "hooks/voices.py", "api/retry.py")
    )
    messages = set(re.findall(r'(?:log\.(\w+)\()"([^"]+)"', sources))
    assert len(table) == len(messages)
    for level, message in messages:
        pattern = re.sub("%[sr]", ".+", re.escape(message))
        rows = [row for row in table if re.match(f"`{pattern}", row["Message"])]
        assert [row["Level"] for row in rows] == [f"`{level.upper()}`"], message


def get_exceptions():
    return {
        name: cls
        for name, cls in vars(exceptions).items()
        if inspect.isclass(cls) and cls.__module__ == exceptions.__name__
    }


def get_exception_attributes(cls):
    """Return the constructor's own arguments and the properties of an exception."""
    own = [base for base in cls.__mro__ if base.__module__ == exceptions.__name__]
    names = [name for base in own if "__init__" in vars(base) for name in get_arguments(base)]
    return {*names, *(name for base in own for name, value in vars(base).items() if isinstance(value, property))}


def test_hook_page_lists_every_exception_with_its_attributes():
    rows = read_table(HOOK, "Exceptions", "Exception")
    assert set(rows) == set(get_exceptions())
    described = set(read_table(HOOK, "Exceptions", "Attribute"))
    for name, cls in get_exceptions().items():
        attributes = get_exception_attributes(cls)
        assert set(unquote_code(rows[name]["Attributes"])) == attributes, name
        assert attributes <= described, name


def test_hook_page_draws_the_exception_hierarchy():
    """In the drawing, a name is below its first base class; a second one stands in parentheses."""
    (drawing,) = read_blocks(HOOK, "text")
    parents = []
    drawn = set()
    for line in drawing.splitlines():
        depth = re.match(r"[│├└─ ]*", line).end() // 4
        name = re.search(r"\w+", line)[0]
        parents[depth:] = [name]
        drawn.add(name)
        if cls := get_exceptions().get(name):
            bases = {base.__name__ for base in cls.__bases__}
            assert bases == {parents[depth - 1], *re.findall(r"\(also an? (\w+)\)", line)}, name
    assert set(get_exceptions()) <= drawn


DAG_OF_EVERY_CLASS = """
from airflow.providers.common.compat.sdk import DAG, Asset, AssetAlias
from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import (
    TextToSpeechOperator,
    TextToSpeechSynthesizeOperator,
    TextToSpeechToObjectStorageOperator,
)
from airflow_provider_mps.operators.track import AssembleTrackOperator
from airflow_provider_mps.operators.voices import CloneVoiceOperator, DeleteVoiceOperator, DesignVoiceOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

with DAG("every_class", schedule=None, params={"folder": ""}) as every_class:
    submit = TextToSpeechOperator(task_id="submit", text="Hello.", voice_id="v", text_lang="en")
    wait = TextToSpeechTaskSensor(task_id="wait", mps_task_id=submit.output, mode="poke")
    store = TextToSpeechToObjectStorageOperator(
        task_id="store",
        mps_task_id=submit.output,
        destination="{{ params.folder }}clip 1.wav",
        outlets=[AssetAlias("clips"), Asset("x://clips")],
    )
    wait >> store
    synthesize = TextToSpeechSynthesizeOperator(
        task_id="synthesize", text="Hello.", voice_id="v", destination="{{ params.folder }}short.wav"
    )
    manifest, destination = "{{ params.folder }}manifest.jsonl", "{{ params.folder }}"
    outlets = [AssetAlias("batches"), Asset("x://batches")]
    batch = TextToSpeechBatchOperator(
        task_id="batch",
        manifest=manifest,
        destination=destination + "stored/",
        on_line_failure="continue",
        outlets=outlets,
    )
    track = AssembleTrackOperator(
        task_id="track",
        results=batch.output,
        destination="{{ params.folder }}track.wav",
        subtitles="{{ params.folder }}track.srt",
        on_missing="silence",
        outlets=[AssetAlias("tracks"), Asset("x://tracks")],
    )
    failing_batch = TextToSpeechBatchOperator(
        task_id="failing_batch", manifest=manifest, destination=destination + "failed/"
    )
    dry_run = TextToSpeechBatchOperator(
        task_id="dry_run", manifest=manifest, destination=destination + "dry/", dry_run=True, outlets=outlets
    )
    trial = {"trial_text": "Hello.", "trial_destination": destination + "trial/"}
    clone = CloneVoiceOperator(task_id="clone", audio=destination + "sample.wav", name="Anna", **trial)
    clone_without_trial = CloneVoiceOperator(
        task_id="clone_without_trial", audio=destination + "sample.wav", name="Bob"
    )
    design = DesignVoiceOperator(task_id="design", prompt="A deep voice", name="Narrator", **trial)
    delete = DeleteVoiceOperator(task_id="delete", voice_id=clone.output)
    delete_nothing = DeleteVoiceOperator(task_id="delete_nothing", voice_id="no-such-voice")
"""


def run_every_class(run_dag, folder):
    """Return the XComs of each task, and the events of each asset, of a real run."""
    from airflow.models.asset import AssetEvent
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    lines = [{"id": "1", "text": "Hello.", "voice_id": "v"}, {"id": "2", "text": "", "voice_id": "v"}]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "sample.wav").write_bytes(b"RIFF" + bytes(4) + b"WAVE" + bytes(100))
    Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], "every_class.py").write_text(DAG_OF_EVERY_CLASS)
    run = run_dag("every_class", "every_class", folder=f"file://{folder}/")
    states = {name: state for name, (state, _) in run.tasks.items()}
    assert {name for name, state in states.items() if state != "success"} == {"failing_batch"}, states
    run_id = run.instances["submit"].run_id
    xcoms, events = {}, {}
    with create_session() as session:
        for xcom in session.query(XComModel).filter_by(dag_id="every_class", run_id=run_id):
            xcoms.setdefault(xcom.task_id, {})[xcom.key] = xcom.value
        for event in session.query(AssetEvent).filter_by(source_dag_id="every_class", source_run_id=run_id):
            events.setdefault(event.source_task_id, []).append((event.asset.uri, event.extra))
    return xcoms, events


@pytest.mark.slow
def test_xcoms_page_lists_what_a_real_run_pushes(run_dag, start_emulator, tmp_path):
    start_emulator()
    xcoms, events = run_every_class(run_dag, tmp_path)
    keys = {
        name: set(read_table(XCOMS, cls.__name__, "Key"))
        for name, cls in (
            ("submit", TextToSpeechOperator),
            ("wait", TextToSpeechTaskSensor),
            ("store", TextToSpeechToObjectStorageOperator),
            ("synthesize", TextToSpeechSynthesizeOperator),
            ("track", AssembleTrackOperator),
            ("batch", TextToSpeechBatchOperator),
        )
    }
    clips = ("submit", "wait", "store", "synthesize", "track")
    assert {name: set(xcoms[name]) for name in clips} == {name: keys[name] for name in clips}
    of_voices = set(read_table(XCOMS, "CloneVoiceOperator and DesignVoiceOperator", "Key"))
    # The page says when each of these is pushed.
    assert set(xcoms["design"]) == of_voices
    assert set(xcoms["clone"]) == of_voices - {"TaskId"}
    assert set(xcoms["clone_without_trial"]) == {"return_value", "VoiceId", "_link_StoredObjectLink"}
    assert set(xcoms["delete"]) == set(read_table(XCOMS, "DeleteVoiceOperator", "Key"))
    assert "delete_nothing" not in xcoms
    assert set(xcoms["batch"]) == set(xcoms["dry_run"]) == keys["batch"] - {"summary"}
    assert set(xcoms["failing_batch"]) == keys["batch"] - {"return_value"}

    result_row = read_table(XCOMS, "TextToSpeechBatchOperator", "Key")["return_value"]["Meaning"]
    assert re.findall(r"\(([\w.]+#[\w-]+)\)", result_row) == [
        "manifest.md#return-value-and-xcoms",
        "manifest.md#return-value-of-a-dry-run",
    ]
    _, *samples = map(json.loads, read_blocks(MANIFEST, "json"))
    result_keys, dry_run_keys = map(set, samples)
    assert set(xcoms["batch"]["return_value"]) == set(xcoms["failing_batch"]["summary"]) == result_keys
    assert set(xcoms["dry_run"]["return_value"]) == dry_run_keys

    validate_events(events, result_keys, tmp_path)


def test_lineage_table_lists_the_counts():
    rows = read_table(XCOMS, "Which counts are reported?", "Key")
    assert list(rows) == [field.name for field in dataclasses.fields(SpeechCounts)]
    facet = [field.name for field in attr.fields(MpsCountsRunFacet) if not field.name.startswith("_")]
    assert list(rows) == facet
    assert f"`{FACET_NAME}`" in read_section(XCOMS, "Which counts are reported?")


def validate_events(events, result_keys, folder):
    clip_keys = set(read_table(XCOMS, "Asset events", "Key"))
    (own, own_extra), (created, extra) = sorted(events["store"], key=lambda event: event[0].startswith("file"))
    assert own.rstrip("/") == "x://clips"
    assert created == f"file://{folder}/clip%201.wav"
    assert extra["uri"] == f"file://{folder}/clip 1.wav"
    assert set(own_extra) == set(extra) == clip_keys

    assert {uri.rstrip("/") for uri, _ in events["batch"]} == {"x://batches", f"file://{folder}/stored/results.jsonl"}
    assert all(set(extra) == result_keys | {"uri"} for _, extra in events["batch"])
    assert [(uri.rstrip("/"), extra) for uri, extra in events["dry_run"]] == [("x://batches", {})]

    # The event of a track adds two keys, as the page says.
    assert {uri.rstrip("/") for uri, _ in events["track"]} == {"x://tracks", f"file://{folder}/track.wav"}
    assert all(set(extra) == clip_keys | {"clips", "subtitles"} for _, extra in events["track"])

    run_consumer(events["store"])


def run_consumer(events):
    """Run the task of the page's first DAG with these events, each of them twice as in Airflow 3."""
    (code,) = [block for block in read_blocks(XCOMS, "python") if "triggering_asset_events" in block]
    names = {}
    exec(compile(code, "xcoms.md", "exec"), names)
    printed = []
    publish = names["publish"].function
    publish.__globals__["print"] = printed.append
    triggering = {alias: [Event(extra) for _, extra in events] for alias in ("asset", "alias")}
    publish(triggering_asset_events=triggering)
    (line,) = printed
    assert re.search(r"clip 1\.wav: \d+ bytes, [\d.]+ seconds, voice v$", line)


@dataclasses.dataclass
class Event:
    extra: dict


def read_options():
    (table,) = read_tables(read_section(CONFIGURATION, "Options of Airflow"))
    return [(*re.fullmatch(r"`\[(\w+)\] (\w+)`", row["Option"]).groups(), row["Default"]) for row in table]


@pytest.mark.parametrize(("section", "option", "default"), read_options())
def test_option_exists_in_airflow_with_its_default(section, option, default):
    from airflow.configuration import conf, retrieve_configuration_description

    description = retrieve_configuration_description(include_providers=False)[section]["options"][option]
    documented = "".join(unquote_code(default)[:1])
    assert documented.lower() == description["default"].lower()
    if not documented:
        assert default.startswith("Empty")
    assert conf.has_option(section, option)


def test_configuration_page_names_every_option_that_the_code_reads():
    options = {f"[{section}] {option}" for section, option, _ in read_options()}
    sources = "".join(path.read_text() for path in (REPOSITORY / "airflow_provider_mps").rglob("*.py"))
    read = re.findall(r'conf\.get\w*\(\s*"(\w+)",\s*"(\w+)"', sources)
    assert read
    assert {f"[{section}] {option}" for section, option in read} <= options
    assert set(re.findall(r"\[\w+\] [a-z]+_\w+", sources)) <= options


def test_configuration_page_lists_every_extra():
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    (table,) = read_tables(read_section(CONFIGURATION, "Extras of the package"))
    extras = [extra for row in table for extra in unquote_code(row["Extra"])]
    assert sorted(extras) == sorted(pyproject["project"]["optional-dependencies"])


def test_configuration_page_lists_every_environment_variable():
    from tencentcloud.common import credential

    from airflow_provider_mps.api.credentials import POD_VARIABLES
    from airflow_provider_mps.api.network_settings import CA_VARIABLES

    section = read_section(CONFIGURATION, "Environment variables")
    listed = {name for table in read_tables(section) for row in table for name in unquote_code(row["Variable"])}
    of_sdk = set(re.findall(r"(?:TENCENTCLOUD|TKE)_[A-Z_]+", inspect.getsource(credential)))
    proxies = {"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"}
    assert listed == {*of_sdk, *POD_VARIABLES, *CA_VARIABLES, *proxies, "AWS_CA_BUNDLE"}
    sources = "".join(path.read_text() for path in (REPOSITORY / "airflow_provider_mps").rglob("*.py"))
    read = re.findall(r'environ(?:\.get\(|\[)"(\w+)"', sources)
    # Proxy variables have two spellings, of which the page lists one.
    assert {name.upper() if name.endswith("_proxy") else name for name in read} <= listed
