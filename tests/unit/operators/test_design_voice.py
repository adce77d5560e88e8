from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    TaskDeferred,
)

from airflow_provider_mps.exceptions import InvalidRequestError, VoiceDesignTaskFailed
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.voices import DesignVoiceOperator
from airflow_provider_mps.polling.event import event_from_outcome
from airflow_provider_mps.triggers.voices import VoiceDesignTaskTrigger
from tests.answers import ACCEPTED
from tests.scripted_server import ScriptedServer, make_json_reply
from tests.state_store import MemoryStore
from tests.voices import IF_EXISTS, LosingEmulator, list_names, make_context

pytestmark = pytest.mark.usefixtures("no_waiting")
NO_VOICES = make_json_reply({"Response": {"ErrorCode": 0, "TotalCount": 0, "Voices": [], "RequestId": "req-1"}})


@pytest.fixture
def store():
    return MemoryStore()


def make_operator(**arguments):
    arguments = {"prompt": "A deep voice", "name": "Narrator", "poll_interval": 0.05, **arguments}
    return DesignVoiceOperator(task_id="design", **arguments)


def design(context, **arguments):
    return make_operator(**arguments).execute(context)


def list_ids():
    return [voice.voice_id for voice in MpsHook().list_voices("design")]


def test_design_returns_voice_id_and_stores_trial(start_emulator, tmp_path):
    start_emulator(synthesis_time=0.3)
    context = make_context()
    voice_id = design(context, trial_text="Hello.", trial_destination=f"file://{tmp_path}/trial/a.wav", age="senior")
    voice = MpsHook().get_voice(voice_id)
    assert (voice.name, voice.age, voice.category) == ("Narrator", "senior", "design")
    xcoms = context["ti"].xcoms
    assert set(xcoms) == {"TaskId", "VoiceId", "AudioUrl", "duration", "trial_audio"}
    assert (xcoms["VoiceId"], xcoms["trial_audio"]) == (voice_id, f"file://{tmp_path}/trial/a.wav")
    assert xcoms["duration"] > 0
    assert (tmp_path / "trial/a.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": " "}, "prompt"),
        ({"name": None}, "name of the voice"),
        ({"trial_text": "x" * 501}, "trial_text has 501 characters"),
        ({"trial_destination": "s3://bucket/trial.wav"}, "without trial_text"),
        ({"poll_interval": -1}, "not a number of seconds"),
    ],
)
def test_invalid_argument_fails_before_any_call(connect, arguments, message):
    with ScriptedServer(NO_VOICES) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match=message):
            design(make_context(), **arguments)
        assert server.requests == []


def test_failed_design_is_not_retried(emulator, store):
    with pytest.raises(VoiceDesignTaskFailed, match="Change the prompt"):
        design(make_context(store), prompt="[fail] no such voice")
    assert list_names("design") == []


@pytest.mark.parametrize("if_exists", IF_EXISTS)
def test_existing_design_is_treated_as_if_exists_says(emulator, if_exists):
    existing = design(make_context())
    if if_exists == "fail":
        with pytest.raises(InvalidRequestError, match="Narrator") as caught:
            design(make_context(), if_exists=if_exists)
        assert existing in str(caught.value)
    else:
        assert (design(make_context(), if_exists=if_exists) == existing) == (if_exists == "reuse")
    assert len(list_ids()) == (2 if if_exists == "create" else 1)


@pytest.mark.parametrize("if_exists", IF_EXISTS)
def test_retry_reconnects_whatever_if_exists_says(emulator, store, if_exists):
    first = design(make_context(store), if_exists=if_exists)
    assert design(make_context(store), if_exists=if_exists) == first
    assert list_ids() == [first]


def test_clear_after_deletion_designs_again(emulator, store):
    first = design(make_context(store))
    MpsHook().delete_voice(first)
    second = design(make_context(store, max_tries=1))
    assert list_ids() == [second]
    assert second != first


def test_retry_returns_voice_that_is_listed_late(emulator, store, monkeypatch):
    first = design(make_context(store))
    with monkeypatch.context() as patch:
        patch.setattr(MpsHook, "_list_voices", lambda *_, **__: [])
        assert design(make_context(store)) == first
    assert list_ids() == [first]


@pytest.mark.parametrize("if_exists", IF_EXISTS)
def test_clear_after_deletion_respects_if_exists(emulator, store, if_exists):
    first = design(make_context(store))
    MpsHook().delete_voice(first)
    other = design(make_context())
    if if_exists == "fail":
        with pytest.raises(InvalidRequestError, match="already: no voice was created"):
            design(make_context(store, max_tries=1), if_exists=if_exists)
    else:
        second = design(make_context(store, max_tries=1), if_exists=if_exists)
        assert (second == other) == (if_exists == "reuse")
    assert len(list_ids()) == (2 if if_exists == "create" else 1)


def test_unknown_outcome_is_not_retried_and_names_what_to_do(start_emulator, store):
    start_emulator(LosingEmulator("DesignVoiceAsync"))
    with pytest.raises(AirflowFailException, match="whether MPS accepted the voice design sent at") as caught:
        design(make_context(store))
    assert "Find out whether the account has the voice" in str(caught.value)
    assert list_names("design") == ["Narrator"]


class Killed(BaseException):
    """Ends an attempt at once, as SIGKILL does: nothing is cleaned up."""


def test_attempt_killed_after_submit_is_not_repeated(emulator, store, monkeypatch):
    submit_design = MpsHook.submit_design

    def submit_and_die(hook, request):
        submit_design(hook, request)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(MpsHook, "submit_design", submit_and_die)
        with pytest.raises(Killed):
            design(make_context(store), if_exists="create")
    with pytest.raises(AirflowFailException, match="a second submit may make a second voice"):
        design(make_context(store), if_exists="create")
    assert list_names("design") == ["Narrator"]


def test_unknown_outcome_with_resubmit_is_retried(start_emulator, store):
    start_emulator(LosingEmulator("DesignVoiceAsync", None))
    with pytest.raises(AirflowException) as caught:
        design(make_context(store), on_unknown="resubmit")
    assert not isinstance(caught.value, AirflowFailException)
    design(make_context(store), on_unknown="resubmit")
    assert list_names("design") == ["Narrator"]


def test_records_of_designs_have_a_key_of_their_own(emulator, store):
    design(make_context(store))
    assert list(store.values) == ["mps_voice_design"]


def test_deferrable_design_defers_and_completes(start_emulator, store, tmp_path):
    start_emulator(synthesis_time=3600)
    arguments = {
        "deferrable": True,
        "execution_timeout": timedelta(minutes=10),
        "trial_text": "Hello.",
        "trial_destination": f"file://{tmp_path}/trial.wav",
    }
    context = make_context(store)
    with pytest.raises(TaskDeferred) as deferred:
        design(context, **arguments)
    trigger = deferred.value.trigger
    assert isinstance(trigger, VoiceDesignTaskTrigger)
    assert (
        deferred.value.kwargs == {"mps_task_id": trigger.mps_task_id} == {"mps_task_id": context["ti"].xcoms["TaskId"]}
    )
    assert trigger.deadline is not None
    start_emulator()
    task_id = MpsHook().submit_voice_design("deep", "Narrator", trial_text="Hello.")
    task = MpsHook().describe_voice_design(task_id)
    operator = make_operator(**arguments)
    assert operator.execute_complete(make_context(store), event_from_outcome(task), task_id) == task.voice_id
    assert (tmp_path / "trial.wav").exists()


def test_timeout_in_triggerer_says_that_retry_reconnects(start_emulator, store):
    start_emulator(synthesis_time=3600)
    with pytest.raises(TaskDeferred) as deferred:
        design(make_context(store), deferrable=True)
    event = event_from_outcome(AirflowSensorTimeout("Task task-1 was still processing"))
    with pytest.raises(AirflowException, match="A retry reconnects to the task"):
        make_operator().execute_complete(make_context(store), event, deferred.value.kwargs["mps_task_id"])
    with pytest.raises(AirflowFailException, match=r"may make a second voice.*MpsHook\.find_voice"):
        make_operator().execute_complete(make_context(), event, deferred.value.kwargs["mps_task_id"])


def test_success_without_voice_id_is_an_error(connect):
    success = make_json_reply({"Response": {"Status": "success", "RequestId": "req-2"}})
    with ScriptedServer(NO_VOICES, ACCEPTED, success) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowException, match=r"task task-1 without a VoiceId \(RequestId req-2\)"):
            design(make_context(MemoryStore()))


def test_on_kill_logs_pending_design(start_emulator, capsys):
    start_emulator(synthesis_time=3600)
    operator = make_operator(deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(make_context())
    operator.on_kill()
    assert f"Task {deferred.value.kwargs['mps_task_id']} continues at MPS" in capsys.readouterr().out
