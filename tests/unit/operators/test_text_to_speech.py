import json
import signal
import wave

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AssetAlias, ObjectStoragePath
from airflow.sdk.execution_time.context import OutletEventAccessors
from fastcrc import crc64

from airflow_provider_mps.emulator.faults import AudioFault
from airflow_provider_mps.errors import (
    AudioTransferError,
    AudioTransferStopped,
    DestinationError,
    InvalidRequestError,
    MpsApiError,
    TextToSpeechTaskFailed,
)
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.text_to_speech import (
    TextToSpeechOperator,
    TextToSpeechToObjectStorageOperator,
)
from tests.scripted_server import RESET, Reply, ScriptedServer, api_error, audio_reply, json_reply

pytestmark = pytest.mark.usefixtures("no_waiting")


class TaskInstance:
    """Takes the XComs that an operator pushes."""

    def __init__(self):
        self.xcoms = {}

    def xcom_push(self, key, value):
        self.xcoms[key] = value


def submit(**arguments):
    return TextToSpeechOperator(task_id="submit", **{"text": "hello", "voice_id": "v", **arguments}).execute({})


def store(mps_task_id, destination, **arguments):
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=mps_task_id, destination=destination, **arguments
    )
    instance = TaskInstance()
    return operator.execute({"ti": instance}), instance.xcoms


def test_submitting_returns_the_task_id(emulator):
    task_id = submit(text_lang="en", ext_param={"synExt": {"sampleRate": 8000}})
    assert MpsHook().describe_text_to_speech_task(task_id).is_ready()


@pytest.mark.parametrize(
    "arguments", [{"text": ""}, {"text": None}, {"voice_id": " "}, {"ext_param": "{"}, {"ext_param": "[1]"}]
)
def test_an_argument_that_cannot_be_sent_fails_before_any_call_and_is_not_retried(connect, arguments):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError) as caught:
            submit(**arguments)
        assert isinstance(caught.value, AirflowFailException)
        assert server.requests == []


def test_a_submit_with_an_unknown_outcome_is_not_retried_by_airflow_either(connect):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match="unknown whether MPS accepted"):
            submit()
        assert len(server.requests) == 1


def test_a_submit_that_was_provably_refused_is_left_to_airflows_retries(connect):
    with ScriptedServer(api_error("RequestLimitExceeded")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsApiError) as caught:
            submit()
        assert not isinstance(caught.value, AirflowFailException)


def test_the_text_is_not_in_the_error(connect):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException) as caught:
            submit(text="SECRETTEXT")
    assert "SECRETTEXT" not in str(caught.value)


def test_storing_returns_the_path_and_pushes_voice_and_duration(emulator, tmp_path):
    path, xcoms = store(submit(), f"file://{tmp_path}/clip.wav")
    assert path == f"file://{tmp_path}/clip.wav"
    with wave.open(str(tmp_path / "clip.wav")) as audio:
        assert xcoms == {"VoiceId": "v", "duration": audio.getnframes() / audio.getframerate()}


@pytest.mark.parametrize("if_exists", ["overwrite", "skip"])
def test_an_outlet_is_told_of_what_was_stored(emulator, tmp_path, if_exists):
    alias, events = AssetAlias("clips"), OutletEventAccessors()
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store",
        mps_task_id=submit(),
        destination=f"file://{tmp_path}/clip.wav",
        if_exists=if_exists,
        outlets=[alias],
    )
    for _ in range(2):
        operator.execute({"ti": TaskInstance(), "outlet_events": events})
    audio = (tmp_path / "clip.wav").read_bytes()
    first, second = events[alias].asset_alias_events
    assert first.dest_asset_key.uri == f"file://{tmp_path}/clip.wav"
    assert first.extra == {
        "uri": f"file://{tmp_path}/clip.wav",
        "VoiceId": "v",
        "duration": (len(audio) - 44) / 32000,
        "size": len(audio),
        "crc64": str(crc64.xz(audio)),
    }
    # What was there already is not read: who was told its CRC-64 has been told of the first time.
    assert second.extra == {**first.extra, "crc64": None if if_exists == "skip" else first.extra["crc64"]}


def test_a_destination_that_cannot_be_an_asset_is_refused_before_anything_is_stored(emulator, tmp_path):
    deep = "/".join(["a" * 200] * 8)
    with pytest.raises(DestinationError, match="cannot be an asset"):
        store(submit(), f"file://{tmp_path}/{deep}/clip.wav", outlets=[AssetAlias("clips")])
    assert list(tmp_path.iterdir()) == []


def test_lineage_names_source_and_destination_without_the_links_signature(emulator, tmp_path):
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=submit(), destination=f"file://{tmp_path}/clip.wav"
    )
    assert operator.get_openlineage_facets_on_complete(None) is None
    operator.execute({"ti": TaskInstance()})
    lineage = operator.get_openlineage_facets_on_complete(None)
    (source,), (destination,) = lineage.inputs, lineage.outputs
    assert source.namespace == emulator.url
    assert source.name.startswith("/async_dubbing/")
    assert "sign=" not in source.name
    assert (destination.namespace, destination.name) == ("file", f"{tmp_path}/clip.wav")


def test_a_kill_ends_the_transfer_and_leaves_nothing(start_emulator, tmp_path):
    start_emulator(audio_faults=(AudioFault.parse("stall"),))
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=submit(), destination=f"file://{tmp_path}/clip.wav"
    )
    before = signal.signal(signal.SIGALRM, lambda *_: operator.on_kill())  # as Airflow does on SIGTERM
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(AudioTransferStopped, match=r"clip\.wav was stopped"):
            operator.execute({"ti": TaskInstance()})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_after_the_end_does_nothing(emulator, tmp_path):
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=submit(), destination=f"file://{tmp_path}/clip.wav"
    )
    operator.execute({"ti": TaskInstance()})
    operator.on_kill()


def test_a_transfer_that_takes_too_long_is_given_up(start_emulator, tmp_path):
    start_emulator(audio_faults=(AudioFault.parse("slow"),))
    with pytest.raises(AudioTransferError, match=r"not stored within 0\.2 seconds"):
        store(submit(text="a longer text " * 50), f"file://{tmp_path}/clip.wav", transfer_timeout=0.2)
    assert list(tmp_path.iterdir()) == []


def test_in_a_folder_the_file_takes_the_audios_own_name(emulator, tmp_path):
    task_id = submit()
    path, _ = store(task_id, f"file://{tmp_path}/new/folder/")
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == [path.rpartition("/")[2]]
    assert path.endswith(f"{task_id.removeprefix('1300000000-DubbingAsync-')}.wav")


def test_a_destination_may_be_an_object_storage_path(emulator, tmp_path):
    path, _ = store(submit(), ObjectStoragePath(f"file://{tmp_path}/clip.wav"))
    assert (tmp_path / "clip.wav").exists()
    assert path == f"file://{tmp_path}/clip.wav"


def test_skip_still_pushes_what_downstream_needs(emulator, tmp_path):
    task_id = submit()
    first = store(task_id, f"file://{tmp_path}/clip.wav")
    assert store(task_id, f"file://{tmp_path}/clip.wav", if_exists="skip") == first


def test_fail_does_not_touch_what_is_there(emulator, tmp_path):
    (tmp_path / "clip.wav").write_bytes(b"old")
    with pytest.raises(DestinationError):
        store(submit(), f"file://{tmp_path}/clip.wav", if_exists="fail")
    assert (tmp_path / "clip.wav").read_bytes() == b"old"


def test_an_unknown_if_exists_is_refused_when_the_dag_is_read():
    with pytest.raises(InvalidRequestError):
        TextToSpeechToObjectStorageOperator(task_id="s", mps_task_id="t", destination="d", if_exists="maybe")


def test_a_task_that_is_still_processing_is_retried_and_the_error_names_the_sensor(start_emulator, tmp_path):
    start_emulator(synthesis_time=60)
    with pytest.raises(AirflowException, match="TextToSpeechTaskSensor") as caught:
        store(submit(), f"file://{tmp_path}/")
    assert not isinstance(caught.value, AirflowFailException)


def test_a_failed_task_is_not_retried(emulator, tmp_path):
    with pytest.raises(TextToSpeechTaskFailed):
        store(submit(text="[fail]"), f"file://{tmp_path}/")


def test_a_success_without_a_link_is_an_error_with_the_request_id(connect, tmp_path):
    with ScriptedServer(json_reply({"Response": {"Status": "success", "RequestId": "req-3"}})) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowException, match=r"no AudioUrl.*req-3"):
            store("task-1", f"file://{tmp_path}/")


@pytest.mark.parametrize("destination", ["", None])
def test_a_missing_destination_fails_before_any_call(connect, destination):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match="destination"):
            store("task-1", destination)
        assert server.requests == []


def test_a_link_that_has_expired_is_asked_for_again(connect, tmp_path):
    audio = b"RIFF"
    links = iter(["expired.wav", "fresh.wav"])

    def serve(request):
        if request.method == "POST":
            url = f"{server.url}/{next(links)}"
            return json_reply({"Response": {"Status": "success", "AudioUrl": url, "RequestId": "r"}})
        return audio_reply(audio) if request.target == "/fresh.wav" else Reply(b"", 403)

    with ScriptedServer(serve) as server:
        connect(server.connection_uri())
        store("task-1", f"file://{tmp_path}/clip.wav")
    assert (tmp_path / "clip.wav").read_bytes() == audio


def test_everything_a_user_would_render_is_templated():
    assert set(TextToSpeechOperator.template_fields) == {
        "text",
        "text_path",
        "voice_id",
        "text_lang",
        "ext_param",
        "sample_rate",
        "pitch",
        "target_duration",
        "translate_to",
        "translate_requirement",
        "max_characters",
        "mps_conn_id",
        "region",
    }
    assert set(TextToSpeechToObjectStorageOperator.template_fields) == {
        "mps_task_id",
        "destination",
        "mps_conn_id",
        "region",
    }


def test_a_repr_holds_no_secret(emulator):
    operator = TextToSpeechOperator(task_id="submit", text="hello", voice_id="v")
    assert "emulator-key" not in repr(operator) + json.dumps(vars(MpsHook()), default=repr)
