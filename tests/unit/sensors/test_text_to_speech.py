import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.errors import MpsPermanentError, TextToSpeechTaskFailed
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor
from tests.scripted_server import RESET, ScriptedServer, api_error, json_reply

pytestmark = pytest.mark.usefixtures("no_waiting")


def sensor(mps_task_id, **arguments):
    return TextToSpeechTaskSensor(task_id="wait", mps_task_id=mps_task_id, **arguments)


def test_reschedule_is_the_default_mode():
    assert sensor("task-1").mode == "reschedule"


def test_it_waits_while_the_task_is_processing(start_emulator):
    start_emulator(synthesis_time=60)
    task_id = MpsHook().submit_text_to_speech("hello", "voice")
    assert not sensor(task_id).poke({}).is_done


def test_it_is_done_when_the_task_has_succeeded_and_tells_what_downstream_needs(emulator):
    task_id = MpsHook().submit_text_to_speech("hello", "voice")
    result = sensor(task_id).poke({})
    assert result.is_done
    assert list(result.xcom_value) == ["TaskId", "Status", "AudioUrl", "VoiceId", "duration", "ExtInfo"]


def test_a_failed_task_fails_the_sensor_with_everything_that_tells_why(emulator):
    task_id = MpsHook().submit_text_to_speech("[fail] hello", "voice")
    with pytest.raises(TextToSpeechTaskFailed, match=f"{task_id}.*ErrorCode 110.*RequestId"):
        sensor(task_id).poke({})


@pytest.mark.parametrize("fault", [api_error("RequestLimitExceeded"), api_error("InternalError"), RESET])
def test_an_error_that_may_pass_is_waited_out_with_a_warning(connect, fault, capsys):
    with ScriptedServer(fault) as server:
        connect(server.connection_uri())
        assert not sensor("task-1").poke({}).is_done
        assert len(server.requests) > 1  # the hook's own retries came first
    assert "still waiting" in capsys.readouterr().out


def test_a_permanent_error_fails_at_once(connect):
    with ScriptedServer(api_error("AuthFailure.SignatureFailure")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError) as caught:
            sensor("task-1").poke({})
    assert isinstance(caught.value, AirflowFailException)


def test_an_unknown_status_fails_at_once_and_is_quoted(connect):
    with ScriptedServer(json_reply({"Response": {"Status": "paused", "RequestId": "r"}})) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match="'paused'"):
            sensor("task-1").poke({})


@pytest.mark.parametrize("task_id", ["", None, "None"])
def test_a_missing_task_id_fails_before_any_call(connect, task_id):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match="mps_task_id"):
            sensor(task_id).poke({})
        assert server.requests == []


def test_task_id_connection_and_region_can_be_templated():
    assert set(TextToSpeechTaskSensor.template_fields) == {"mps_task_id", "mps_conn_id", "region"}
