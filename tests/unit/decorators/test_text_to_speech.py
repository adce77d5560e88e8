import inspect
import subprocess
import sys
import typing
from contextlib import nullcontext
from enum import Enum
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    DecoratedOperator,
    ObjectStoragePath,
    TaskDeferred,
    XComArg,
    task,
)
from markupsafe import Markup

from airflow_provider_mps.decorators import text_to_speech
from airflow_provider_mps.decorators.text_to_speech import TextToSpeechArguments, parse_returned, text_to_speech_task
from airflow_provider_mps.durable.submit import TEXT
from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator
from airflow_provider_mps.polling.event import event_from_outcome
from airflow_provider_mps.speech.task import TaskStatus, TextToSpeechTask
from tests.state_store import MemoryStore

OPERATOR_ARGUMENTS = [
    name for name in inspect.signature(TextToSpeechOperator.__init__).parameters if name not in {"self", "kwargs"}
]


class Region(str, Enum):  # noqa: UP042 - whose str() is its name
    SINGAPORE = "ap-singapore"


class TaskInstance:
    max_tries = 0
    map_index = -1

    def __init__(self):
        self.xcoms = {}

    def xcom_push(self, key, value):
        self.xcoms[key] = value


def make_context(store=None):
    return {"ti": TaskInstance(), "task_state_store": store}


def make_operator(function, *args, **arguments):
    """Return the operator of a decorated function, which is called with the positional arguments."""
    with DAG("decorated", schedule=None):
        return text_to_speech_task(**{"task_id": "speak", "voice_id": "v", **arguments})(function)(*args).operator


@pytest.fixture
def accepted(start_emulator):
    """Start an emulator, and return a function that returns the tasks it has accepted."""
    app = make_app(Options(synthesis_time=60, voice="tone"))
    start_emulator(app)
    return lambda: list(app.state.tasks._tasks.values())


def test_returned_text_is_submitted(accepted):
    context = make_context()
    task_id = make_operator(lambda name: f"Hello {name}.", "Anna", text_lang="en").execute(context)
    (only,) = accepted()
    assert (only.text, only.voice_id, only.language) == ("Hello Anna.", "v", "en")
    assert context["ti"].xcoms == {"TaskId": task_id}


def test_result_does_not_pass_through_the_decorated_operator(accepted, monkeypatch):
    """That of Airflow 3.0 reads an attribute that operators lack, after the text has been submitted."""
    monkeypatch.setattr(DecoratedOperator, "execute", lambda *_: pytest.fail("it was called"))
    task_id = make_operator(lambda: "Hi.").execute(make_context())
    assert [each.task_id for each in accepted()] == [task_id]


def test_returned_arguments_take_precedence_over_the_decorator(accepted):
    returned = {"text": "Hi.", "voice_id": "other", "pitch": 3, "text_lang": None}
    make_operator(lambda: returned, text_lang="en", sample_rate=8000, pitch=1).execute(make_context())
    (only,) = accepted()
    assert (only.voice_id, only.language, only.style.sample_rate, only.style.pitch) == ("other", "en", 8000, 3)


def test_returned_values_are_not_rendered(accepted):
    make_operator(lambda: "{{ conn.mps_default.password }} {% if").execute(make_context())
    assert [each.text for each in accepted()] == ["{{ conn.mps_default.password }} {% if"]


def test_returned_text_path_replaces_text_of_decorator(accepted, tmp_path):
    (tmp_path / "text.txt").write_text("From a file.")
    path = ObjectStoragePath(f"file://{tmp_path}/text.txt")
    make_operator(lambda: {"text_path": path}, text="From the decorator.").execute(make_context())
    assert [each.text for each in accepted()] == ["From a file."]


@pytest.mark.parametrize(
    ("returned", "parsed"),
    [
        ("Hi.", {"text": "Hi.", "text_path": None}),
        ({"voice_name": "Anna"}, {"voice_name": "Anna", "voice_id": None}),
        ({"voice_name": "Anna", "voice_id": "v"}, {"voice_name": "Anna", "voice_id": "v"}),
        ({"voice_id": None, "pitch": 0}, {"pitch": 0}),
        ({"deferrable": False, "region": ""}, {"deferrable": False, "region": ""}),
    ],
)
def test_returned_argument_unsets_what_it_excludes(returned, parsed):
    assert parse_returned(returned, "speak") == parsed


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "The function speak returned None: nothing was submitted. Return the text"),
        ({}, "returned an empty dict"),
        (["Hi."], "returned a value of type list"),
        (b"Hi.", "returned a value of type bytes"),
        (42, "returned 42"),
        ("", "text is empty"),
        (" \n", "text is empty"),
        ({"text": ""}, "text is empty"),
        ({"text": None}, "text is empty"),
        ({"text": ["Hi."]}, "text must be a text, not list"),
        ({"text": "Hi.", "text_path": "file:///a"}, "text and text_path are both given"),
        ({"text": "Hi.", "voice": "v"}, "the key 'voice', which it cannot set"),
        ({"text": "Hi.", "task_id": "speak"}, "the key 'task_id'.+Set other arguments of the task in the decorator"),
        ({"text": "Hi.", "retries": 3}, "the key 'retries'"),
        ({"text": "Hi.", "durable": False}, "the key 'durable'"),
        ({"text": "Hi.", 1: 2}, "the key 1,"),
        ({"text": "Hi.", "voice_id": 1.5j}, "voice_id must be a text, not complex"),
        ({"text": "Hi.", "voice_id": "v", "voice_name": "n"}, "voice_id and voice_name"),
        ({"text": "Hi.", "text_lang": ["en"]}, "text_lang must be a text, not list"),
        ({"text": "Hi.", "pitch": 13}, "pitch must be a whole number"),
        ({"text": "Hi.", "sample_rate": "fast"}, "sample_rate must be a number"),
        ({"text": "Hi.", "ext_param": ["x"]}, "ext_param must be a dict"),
        ({"text": "Hi.", "max_characters": 2}, "more than max_characters"),
        ({"text": "Hi.", "wait_for_completion": "yes"}, "returned 'yes' as wait_for_completion, which must be True or"),
        ({"text": "Hi.", "deferrable": 1}, "as deferrable, which must be True or False"),
        ({"text": "Hi.", "poll_interval": -1}, "as poll_interval, which must be a number of seconds"),
        ({"text": "Hi.", "on_unknown": "retry"}, "on_unknown must be one of fail, resubmit"),
        ({"text": "Hi.", "mps_conn_id": 1}, "as mps_conn_id, which must be a text"),
        ({"text": "Hi.", "region": 1}, "as region, which must be a text"),
    ],
)
def test_invalid_return_value_submits_nothing(accepted, returned, message):
    def speak():
        return returned

    with pytest.raises(InvalidRequestError, match=message) as caught:
        make_operator(speak).execute(make_context())
    assert isinstance(caught.value, AirflowFailException)
    assert accepted() == []


def test_second_attempt_with_the_same_text_reconnects(accepted):
    store = MemoryStore()
    calls = []
    first, second = (make_operator(lambda: calls.append(1) or "Once.").execute(make_context(store)) for _ in range(2))
    assert (first, len(accepted()), len(calls)) == (second, 1, 2)


def test_second_attempt_with_another_text_submits_again(accepted):
    store = MemoryStore()
    for text in ("One.", "Two."):
        make_operator(lambda: text).execute(make_context(store))  # noqa: B023 - called at once
    assert [each.text for each in accepted()] == ["One.", "Two."]


def test_error_of_the_function_is_raised_and_submits_nothing(accepted):
    with pytest.raises(ZeroDivisionError):
        make_operator(lambda: str(1 / 0)).execute(make_context())
    assert accepted() == []


def test_deferral_resumes_with_the_chosen_account_without_a_call(accepted):
    def speak():
        return {"text": "Hi.", "mps_conn_id": "mps_default", "region": "ap-singapore"}

    waits = {"wait_for_completion": True, "deferrable": True, "mps_conn_id": "other"}
    with pytest.raises(TaskDeferred) as deferred:
        make_operator(speak, **waits).execute(make_context())
    (only,) = accepted()
    assert deferred.value.trigger.serialize()[1]["region"] == "ap-singapore"
    assert deferred.value.kwargs["account"] == {"mps_conn_id": "mps_default", "region": "ap-singapore"}
    resumed = make_operator(lambda: pytest.fail("called again"), **waits)
    event = event_from_outcome(TextToSpeechTask(only.task_id, TaskStatus.SUCCESS))
    kwargs = {**deferred.value.kwargs, "event": event}
    assert resumed.resume_execution("execute_complete", kwargs, make_context()) == only.task_id
    assert (resumed.hook.mps_conn_id, resumed.hook.region) == ("mps_default", "ap-singapore")


def test_on_kill_during_the_function_submits_nothing(accepted):
    operator = make_operator(lambda: operator.on_kill() or "Too late.")
    with pytest.raises(AirflowException, match="while the function <lambda> was running"):
        operator.execute(make_context())
    assert accepted() == []


def test_on_kill_between_function_and_request_submits_nothing(accepted, monkeypatch):
    operator = make_operator(lambda: "Too late.")
    monkeypatch.setattr(operator, "get_kind", lambda: operator.on_kill() or TEXT)
    with pytest.raises(AirflowException, match="before the text was sent"):
        operator.execute(make_context())
    assert accepted() == []


def test_function_receives_the_context_and_rendered_arguments(accepted):
    def speak(name, ds=None):
        return f"{name} {ds}"

    operator = make_operator(speak, "{{ name }}")
    operator.render_template_fields({"name": "Anna", "ds": "2026-01-01"})
    operator.execute({**make_context(), "ds": "2026-01-01"})
    assert [each.text for each in accepted()] == ["Anna 2026-01-01"]


def test_argument_named_like_an_entry_of_the_context_does_not_replace_it(accepted):
    def speak(ti):
        return f"Hello, {ti}."

    with DAG("decorated", schedule=None):
        operator = text_to_speech_task(task_id="speak", voice_id="v")(speak)(ti="Anna").operator
    context = make_context()
    task_id = operator.execute(context)
    assert [each.text for each in accepted()] == ["Hello, Anna."]
    assert context["ti"].xcoms == {"TaskId": task_id}


def test_returned_subclass_of_str_becomes_a_plain_text(accepted):
    operator = make_operator(lambda: {"text": Markup("Hi."), "region": Region.SINGAPORE})
    operator.execute(make_context())
    assert [(type(value), value) for value in (operator.text, operator.region)] == [
        (str, "Hi."),
        (str, "ap-singapore"),
    ]


@pytest.mark.parametrize(("text", "is_shown"), [("Hi.", True), ("a\ud800", False)])
def test_rendered_templates_show_what_can_be_submitted(accepted, text, is_shown):
    operator = make_operator(lambda: text)
    with nullcontext() if is_shown else pytest.raises(InvalidRequestError, match="cannot be encoded"):
        operator.execute(make_context())
    assert operator.overwrite_rtif_after_execution is is_shown


def test_decorator_arguments_are_rendered():
    operator = make_operator(lambda: "", voice_id="{{ voice }}", region="{{ voice }}")
    operator.render_template_fields({"voice": "Anna"})
    assert (operator.voice_id, operator.region) == ("Anna", "Anna")


def test_partial_override_and_call_twice_make_tasks():
    with DAG("decorated", schedule=None, default_args={"voice_id": "default"}) as dag:

        @text_to_speech_task
        def speak(greeting: str, name: str) -> str:
            return f"{greeting} {name}."

        speak("Hi", "Anna")
        speak.override(task_id="loud", pitch=1)("HI", "Anna")
        speak("Hi", "Ben")
        mapped = speak.partial(greeting="Hi").expand(name=["Anna", "Ben"])
    assert set(dag.task_ids) == {"speak", "loud", "speak__1", "speak__2"}
    assert {dag.get_task(name).voice_id for name in ("speak", "loud", "speak__1")} == {"default"}
    assert dag.get_task("loud").pitch == 1
    assert isinstance(mapped, XComArg)


@pytest.mark.parametrize("text", ["{{ secret }}", "{% if secret %}x{% endif %}", "{{ broken"])
def test_expand_kwargs_text_from_task_is_not_rendered(monkeypatch, text):
    def speak(text: str, note: str) -> str:
        return text + note

    with DAG("mapped", schedule=None) as dag:

        @task
        def read():
            return []

        texts = read()
        text_to_speech_task(task_id="mapped", voice_id="v")(speak).partial(note="now {{ secret }}").expand_kwargs(texts)
    monkeypatch.setattr(type(texts), "resolve", lambda *_: [{"text": text}])
    instance = TaskInstance()
    instance.map_index = 0
    context = {"ti": instance, "secret": "RENDERED", "dag": dag, "dag_run": SimpleNamespace(conf=None)}
    dag.get_task("mapped").render_template_fields(context)
    assert context["task"].op_kwargs == {"text": text, "note": "now RENDERED"}


def test_airflow_offers_the_decorator():
    assert task.text_to_speech is text_to_speech_task


def test_annotated_dict_is_not_split_into_xcoms():
    def speak() -> dict[str, str]:
        return {"text": "Hi."}

    assert make_operator(speak).multiple_outputs is False
    with pytest.raises(InvalidRequestError, match="cannot have multiple_outputs"):
        text_to_speech_task(multiple_outputs=True)


def test_types_name_every_argument_of_the_operator():
    assert set(TextToSpeechArguments.__annotations__) == set(OPERATOR_ARGUMENTS) - {"durable"}
    _, overload = typing.get_overloads(text_to_speech.text_to_speech_task)
    parameters = inspect.signature(overload).parameters
    assert set(parameters) - {"python_callable", "multiple_outputs", "kwargs"} == set(OPERATOR_ARGUMENTS)
    operator = inspect.signature(TextToSpeechOperator.__init__).parameters
    assert {name: parameters[name].annotation for name in OPERATOR_ARGUMENTS} == {
        name: operator[name].annotation for name in OPERATOR_ARGUMENTS
    }


USER_CODE = """
from airflow.sdk import DAG, task
from airflow_provider_mps.decorators.text_to_speech import TextToSpeechArguments, text_to_speech_task

with DAG("typed"):

    @text_to_speech_task(voice_id="v", deferrable=True, retries=2)
    def report(rows: int) -> str:
        return f"{rows} rows."

    @text_to_speech_task
    def choose(rows: int) -> TextToSpeechArguments:
        return {"text": f"{rows} rows.", "voice_name": "Anna"}

    @task.text_to_speech(voice_id="v")
    def registered(rows: int) -> str:
        return f"{rows} rows."

    report(3) >> choose(rows=3) >> registered(3)
    report.override(task_id="again").partial().expand(rows=[1, 2])
    MARK
"""


@pytest.mark.slow
def test_type_checker_accepts_use_and_rejects_misuse(tmp_path):
    file = tmp_path / "typed.py"
    mistakes = [
        'report("three")',
        "text_to_speech_task(voice_id=3)",
        "@text_to_speech_task\n    def number() -> int: return 1",
        'wrong: TextToSpeechArguments = {"voice": "v"}',
    ]
    file.write_text(USER_CODE.replace("MARK", "\n    ".join(mistakes)))
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        f"--cache-dir={tmp_path}/cache",
        str(file),
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    first = file.read_text().splitlines().index('    report("three")') + 1
    assert [int(line.split(":")[1]) for line in printed.splitlines() if ": error:" in line] == [
        first,
        first + 1,
        first + 2,
        first + 4,
    ], printed
