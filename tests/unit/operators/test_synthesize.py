import base64
import io
from datetime import UTC, datetime, timedelta

import pytest
import soundfile
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    Asset,
    AssetAlias,
    ObjectStoragePath,
)

from airflow_provider_mps.durable.synthesis import STATE_KEY
from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.faults import AudioFault, FaultKind
from airflow_provider_mps.exceptions import (
    AudioTransferError,
    AudioTransferStopped,
    DestinationError,
    InvalidRequestError,
    MpsPermanentError,
)
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.text_to_speech import TextToSpeechSynthesizeOperator
from airflow_provider_mps.storage.writers.local import LocalWriter
from tests.faulty_emulator import FaultyEmulator, make_api_error
from tests.scripted_server import HANG, RESET, ScriptedServer, make_json_reply
from tests.state_store import MemoryStore
from tests.voices import SAMPLE, LosingEmulator, make_context

pytestmark = pytest.mark.usefixtures("no_waiting")
OUTPUT_TYPES = ["url", "data"]
QUICK = Options(synthesis_time=0.0, voice="tone")


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def mps(start_emulator):
    """The emulator, which lists the actions that were called."""
    app = FaultyEmulator(QUICK)
    start_emulator(app)
    return app


@pytest.fixture
def make(tmp_path):
    def make(**arguments):
        defaults = {"text": "Hello", "voice_id": "v1", "destination": f"file://{tmp_path}/clips/clip.wav"}
        return TextToSpeechSynthesizeOperator(task_id="speak", **{**defaults, **arguments})

    return make


@pytest.fixture
def clip(tmp_path):
    return tmp_path / "clips/clip.wav"


def attempt(store, number=1):
    """Return the context of an attempt of a task with three retries."""
    return make_context(store, max_tries=3, try_number=number)


def clear(store, number):
    """Return the context of the first attempt after a clear."""
    return make_context(store, max_tries=6, try_number=number)


def count_spoken(mps):
    return mps.actions.count("TextToSpeech")


@pytest.mark.parametrize("output_type", OUTPUT_TYPES)
def test_speak_stores_audio_and_pushes_xcoms(mps, make, clip, output_type):
    context = make_context()
    assert make(output_type=output_type).execute(context) == f"file://{clip}"
    length = soundfile.info(str(clip)).duration
    assert context["ti"].xcoms == {"VoiceId": "v1", "duration": pytest.approx(length)}
    assert mps.actions == ["TextToSpeech"]


@pytest.mark.parametrize("output_type", OUTPUT_TYPES)
def test_mp3_of_24_khz_is_stored(mps, make, tmp_path, output_type):
    destination = f"file://{tmp_path}/clip.mp3"
    make(destination=destination, audio_format="mp3", sample_rate="24000", output_type=output_type).execute(
        make_context()
    )
    info = soundfile.info(str(tmp_path / "clip.mp3"))
    assert (info.format, info.samplerate) == ("MP3", 24000)


def test_target_duration_is_length_of_audio(mps, make, clip):
    make(target_duration=1.5).execute(make_context())
    assert soundfile.info(str(clip)).duration == 1.5


def test_folder_takes_name_of_mps(mps, make, tmp_path):
    path = make(destination=f"file://{tmp_path}/", audio_format="mp3").execute(make_context())
    assert path.endswith(".mp3")
    assert ObjectStoragePath(path).exists()


def test_text_path_is_spoken(mps, make, tmp_path, clip):
    (tmp_path / "text.txt").write_text("Hello from a file")
    operator = make(text=None, text_path=f"file://{tmp_path}/text.txt")
    operator.execute(make_context())
    assert clip.exists()
    assert operator.get_openlineage_facets_on_complete(None).inputs[1].name == f"{tmp_path}/text.txt"


def test_voice_name_is_looked_up(mps, make):
    context = make_context()
    name = "Ann"
    voice_id = MpsHook().clone_voice(b"RIFF" + bytes(4) + b"WAVE" + bytes(100), name)
    make(voice_id=None, voice_name=name).execute(context)
    assert context["ti"].xcoms["VoiceId"] == voice_id


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": ""}, "text is empty"),
        ({"text": None}, "text is empty"),
        ({"text_path": "file:///a.txt"}, "text and text_path are both given"),
        ({"voice_name": "Ann"}, "voice_id and voice_name"),
        ({"voice_id": None}, "voice_id"),
        ({"audio_format": "ogg"}, "audio_format must be one of wav, mp3, not 'ogg'"),
        ({"sample_rate": 48000}, "sample_rate must be one of 8000, 16000, 22050, 24000, 32000, 44100 (Hz), not 48000"),
        ({"sample_rate": "fast"}, "sample_rate must be a number, not 'fast'"),
        ({"target_duration": 0}, "target_duration must be a number of seconds above 0"),
        ({"target_duration": "nan"}, "target_duration must be a number"),
        ({"output_type": "stream"}, "output_type must be one of url, data"),
        ({"max_characters": 4}, "more than max_characters (4)"),
        ({"destination": "clip.wav"}, "destination must be an absolute"),
        ({"destination": "file:///tmp/clip.mp3"}, "ends in .mp3, but audio_format is 'wav'"),
        ({"destination": "file:///tmp/clip.WAV", "audio_format": "mp3"}, "ends in .wav, but audio_format is 'mp3'"),
        ({"destination": "file:///tmp/", "output_type": "data"}, "the audio has no name"),
        ({"transfer_timeout": 0}, "transfer_timeout must be a number of seconds above 0"),
    ],
)
def test_bad_argument_fails_before_any_call(mps, make, arguments, message):
    with pytest.raises(InvalidRequestError) as raised:
        make(**arguments).execute(make_context())
    assert message in str(raised.value)
    assert mps.actions == []


@pytest.mark.parametrize("destination", ["nowhere://bucket/clip.wav", "http://example.com/clip.wav"])
def test_destination_without_filesystem_fails_before_any_call(mps, make, destination):
    with pytest.raises(DestinationError):
        make(destination=destination).execute(make_context())
    assert mps.actions == []


@pytest.mark.parametrize(("name", "message"), [("", "is a folder"), ("/file/clip.wav", "cannot be written")])
def test_local_destination_that_cannot_be_written_fails_before_any_call(mps, make, tmp_path, name, message):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DestinationError, match=message):
        make(destination=f"file://{tmp_path}{name}").execute(make_context())
    assert mps.actions == []
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_folder_without_slash_fails_before_any_call(mps, make, clip):
    clip.mkdir(parents=True)
    with pytest.raises(DestinationError, match="is a folder"):
        make().execute(make_context())
    assert mps.actions == []


def test_existing_file_fails_before_any_call(mps, make, clip):
    clip.parent.mkdir()
    clip.write_bytes(b"old")
    with pytest.raises(DestinationError, match="exists already"):
        make(if_exists="fail").execute(make_context())
    assert mps.actions == []
    assert clip.read_bytes() == b"old"


def test_alias_without_asset_uri_fails_before_any_call(mps, make):
    operator = make(destination="file:///tmp/" + "a" * 2000, outlets=[AssetAlias("clips")])
    with pytest.raises(DestinationError, match="cannot be an asset"):
        operator.execute(make_context())
    assert mps.actions == []


@pytest.mark.parametrize("output_type", OUTPUT_TYPES)
def test_skip_keeps_same_audio_and_replaces_other(mps, make, clip, output_type):
    make().execute(make_context())
    before = clip.stat().st_ino
    make(if_exists="skip", output_type=output_type).execute(make_context())
    assert clip.stat().st_ino == before
    make(if_exists="skip", output_type=output_type, text="Something else, and longer").execute(make_context())
    assert clip.stat().st_ino != before


def test_failed_text_is_permanent_and_leaves_no_record(mps, make, store, clip):
    with pytest.raises(MpsPermanentError, match=r"RequestRejected: .*begins with \[fail\]"):
        make(text="[fail] no").execute(attempt(store))
    assert store.get(STATE_KEY) is None
    assert not clip.exists()


def test_asset_event_has_uri_and_checksum(mps, make, clip):
    context = make_context()
    asset = Asset(f"file://{clip}")
    events = {asset: type("Event", (), {"extra": {}})()}
    make(outlets=[asset]).execute({**context, "outlet_events": events})
    assert events[asset].extra["uri"] == f"file://{clip}"
    assert events[asset].extra["crc64"].isdigit()


@pytest.mark.parametrize("output_type", OUTPUT_TYPES)
def test_lineage_has_source_without_signature(mps, make, clip, output_type):
    operator = make(output_type=output_type)
    operator.execute(make_context())
    lineage = operator.get_openlineage_facets_on_complete(None)
    assert lineage.outputs[0].name == str(clip)
    assert lineage.inputs[0].namespace.startswith("http://127.0.0.1:")
    assert "sign" not in repr(lineage)


# Attempts after a failure.


def test_storing_fails_retry_stores_without_speaking_again(mps, make, store, clip, monkeypatch):
    fail_to_store(monkeypatch, lambda: make().execute(attempt(store)))
    context = attempt(store, 2)
    make().execute(context)
    assert count_spoken(mps) == 1
    assert context["ti"].xcoms["duration"] == pytest.approx(soundfile.info(str(clip)).duration)


def test_retry_with_other_arguments_speaks_again(mps, make, store):
    make().execute(attempt(store))
    make(text="Changed").execute(attempt(store, 2))
    assert count_spoken(mps) == 2


def test_clear_stores_recorded_audio_again(mps, make, store, clip):
    make().execute(attempt(store))
    clip.unlink()
    make().execute(clear(store, 2))
    assert count_spoken(mps) == 1
    assert clip.exists()


def test_clear_stores_recorded_audio_at_other_destination(mps, make, store, tmp_path):
    make().execute(attempt(store))
    make(destination=f"file://{tmp_path}/other.wav").execute(clear(store, 2))
    assert count_spoken(mps) == 1
    assert (tmp_path / "other.wav").exists()


def forget_end(store):
    """Make the record one of an attempt that was killed before it could record its end."""
    store.set(STATE_KEY, {**store.get(STATE_KEY), "has_ended": False})


def fail_to_store(monkeypatch, run):
    def fail(*_):
        raise OSError("full")

    with monkeypatch.context() as patch:
        patch.setattr(TextToSpeechSynthesizeOperator, "_store", fail)
        with pytest.raises(OSError, match="full"):
            run()


def age_record(store, hours):
    sent_at = (datetime.now(UTC) - timedelta(hours=hours)).isoformat(timespec="seconds")
    store.set(STATE_KEY, {**store.get(STATE_KEY), "sent_at": sent_at})


def test_expired_url_fails_retry_and_is_spoken_again_after_clear(mps, make, store):
    make().execute(attempt(store))
    age_record(store, 25)
    with pytest.raises(AirflowFailException, match=r"has expired\. It is not retried, because MPS would bill"):
        make().execute(attempt(store, 2))
    assert count_spoken(mps) == 1
    make().execute(attempt(store, 3))  # after a permanent failure, only a clear can follow
    assert count_spoken(mps) == 2


def test_expired_url_resubmit_speaks_again(mps, make, store):
    make(on_unknown="resubmit").execute(attempt(store))
    age_record(store, 25)
    make(on_unknown="resubmit").execute(attempt(store, 2))
    assert count_spoken(mps) == 2


def test_url_rejected_by_storage_is_retried_and_spoken_again_after_clear(start_emulator, make, store, clip):
    app = FaultyEmulator(Options(synthesis_time=0.0, voice="tone", link_lifetime=0.0))
    start_emulator(app)
    with pytest.raises(AudioTransferError, match="rejected the URL"):
        make().execute(attempt(store))
    with pytest.raises(AudioTransferError, match="rejected the URL"):
        make().execute(attempt(store, 2))
    assert count_spoken(app) == 1
    # The new URL is not valid either: the text is spoken once in an attempt.
    with pytest.raises(AudioTransferError, match="rejected the URL"):
        make().execute(clear(store, 3))
    assert count_spoken(app) == 2
    assert not clip.exists()


def test_lost_response_fails_without_retry_until_clear(start_emulator, make, store):
    app = LosingEmulator("TextToSpeech")
    start_emulator(app)
    with pytest.raises(AirflowFailException, match="It is unknown whether MPS accepted the text"):
        make().execute(attempt(store))
    forget_end(store)
    with pytest.raises(AirflowFailException, match="An earlier attempt ended"):
        make().execute(attempt(store, 2))
    assert count_spoken(app) == 1
    make().execute(clear(store, 3))
    assert count_spoken(app) == 2


def test_lost_response_resubmit_speaks_again_in_next_attempt(start_emulator, make, store, clip):
    app = LosingEmulator("TextToSpeech")
    start_emulator(app)
    with pytest.raises(AirflowException, match="A retry submits it again") as raised:
        make(on_unknown="resubmit").execute(attempt(store))
    assert not isinstance(raised.value, AirflowFailException)
    make(on_unknown="resubmit").execute(attempt(store, 2))
    assert count_spoken(app) == 2
    assert clip.exists()


@pytest.mark.parametrize("fault", [RESET, HANG], ids=["reset", "timeout"])
def test_no_response_is_unknown(connect, make, store, fault, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.api.actions.SYNTHESIS_TIMEOUT_SECONDS", 0.5)
    with ScriptedServer(fault) as server:
        connect(server.connection_uri("timeout=1"))
        with pytest.raises(AirflowFailException, match="It is unknown whether MPS accepted the text"):
            make().execute(attempt(store))
    assert len(server.requests) == 1
    assert store.get(STATE_KEY)["task_id"] is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"AudioUrl": "", "AudioData": ""},
        {"AudioData": "not base64!"},
        {"AudioData": "AAAA"},
        {"AudioUrl": 7},
    ],
    ids=repr,
)
def test_response_without_audio_is_unknown_and_names_request(connect, make, store, fields):
    reply = make_json_reply({"Response": {"ErrorCode": 0, "Msg": "success", "RequestId": "req-7", **fields}})
    with ScriptedServer(reply) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match="RequestId req-7"):
            make().execute(attempt(store))


def test_throttled_call_is_retried_in_attempt(mps, make, clip):
    mps.faults.extend([make_api_error("RequestLimitExceeded")] * 2)
    make().execute(make_context())
    assert count_spoken(mps) == 3
    assert clip.exists()


def test_failure_after_call_without_store_is_not_retried(start_emulator, make):
    app = FaultyEmulator(Options(synthesis_time=0.0, voice="tone", link_lifetime=0.0))
    start_emulator(app)
    with pytest.raises(AirflowFailException, match=r"after MPS had accepted the text \(RequestId .*not retried"):
        make().execute(make_context())


def test_not_durable_keeps_no_record(mps, make, store):
    make(durable=False).execute(attempt(store))
    make(durable=False).execute(attempt(store, 2))
    assert store.values == {}
    assert count_spoken(mps) == 2


def test_download_faults_are_resumed_without_speaking_again(start_emulator, make, clip):
    faults = (AudioFault(FaultKind.TRUNCATE, 2),)
    app = FaultyEmulator(Options(synthesis_time=0.0, voice="tone", audio_faults=faults))
    start_emulator(app)
    make(target_duration=60).execute(make_context())
    assert count_spoken(app) == 1
    assert soundfile.info(str(clip)).duration == 60


@pytest.mark.parametrize("on_unknown", ["fail", "resubmit"])
def test_data_that_cannot_be_stored_is_retried_in_attempt_only(mps, make, store, clip, monkeypatch, on_unknown):
    attempts = []

    def fail(*_, **__):
        attempts.append(1)
        raise AudioTransferError("The storage is down.")

    operator = make(output_type="data", on_unknown=on_unknown, transfer_timeout=0.2)
    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_mps.storage.file.store_file", fail)
        with pytest.raises(AirflowException, match="The storage is down") as raised:
            operator.execute(attempt(store))
    assert isinstance(raised.value, AirflowFailException) == (on_unknown == "fail")
    assert len(attempts) > 1
    if on_unknown == "fail":
        forget_end(store)
        with pytest.raises(AirflowFailException, match=r"not stored at the destination\. It is not retried"):
            make(output_type="data").execute(attempt(store, 2))
        make(output_type="data").execute(clear(store, 3))
    else:
        make(output_type="data", on_unknown=on_unknown).execute(attempt(store, 2))
    assert count_spoken(mps) == 2
    assert clip.exists()


@pytest.mark.parametrize("if_exists", ["overwrite", "skip", "fail"])
@pytest.mark.parametrize("output_type", OUTPUT_TYPES)
def test_xcom_fails_after_storing_retry_succeeds(mps, make, store, clip, output_type, if_exists):
    def fail(**_):
        raise OSError("The API server is down.")

    arguments = {"output_type": output_type, "if_exists": if_exists}
    context = attempt(store)
    context["ti"].xcom_push = fail
    with pytest.raises(OSError, match="API server"):
        make(**arguments).execute(context)
    assert clip.exists()
    context = attempt(store, 2)
    assert make(**arguments).execute(context) == f"file://{clip}"
    assert context["ti"].xcoms["duration"] == pytest.approx(soundfile.info(str(clip)).duration)
    assert count_spoken(mps) == 1


@pytest.mark.parametrize("output_type", OUTPUT_TYPES)
def test_retry_if_exists_fail_rejects_other_audio(mps, make, store, clip, monkeypatch, output_type):
    operator = make(output_type=output_type, if_exists="fail")
    fail_to_store(monkeypatch, lambda: operator.execute(attempt(store)))
    clip.write_bytes(b"another program's")
    with pytest.raises(
        AirflowFailException, match="exists already" if output_type == "url" else "not stored at the destination"
    ):
        make(output_type=output_type, if_exists="fail").execute(attempt(store, 2))
    assert clip.read_bytes() == b"another program's"
    assert count_spoken(mps) == 1


@pytest.mark.parametrize("output_type", OUTPUT_TYPES)
def test_clear_if_exists_fail_rejects_file_and_speaks_nothing(mps, make, store, clip, output_type):
    make(output_type=output_type, if_exists="fail").execute(attempt(store))
    with pytest.raises(DestinationError, match="exists already"):
        make(output_type=output_type, if_exists="fail").execute(clear(store, 2))
    assert count_spoken(mps) == 1
    assert clip.exists()


def test_data_stored_by_upload_without_response_is_kept(mps, make, store, clip, monkeypatch):
    commit, losses = LocalWriter.commit, [OSError("The response is lost.")]

    def lose(writer):
        receipt = commit(writer)
        if losses:
            raise losses.pop()
        return receipt

    monkeypatch.setattr(LocalWriter, "commit", lose)
    make(output_type="data", if_exists="fail").execute(attempt(store))
    assert clip.exists()
    assert count_spoken(mps) == 1


def test_lost_data_resubmit_is_retried_without_store(mps, make, monkeypatch):
    def fail(*_, **__):
        raise AudioTransferError("The storage is down.")

    monkeypatch.setattr("airflow_provider_mps.storage.file.store_file", fail)
    with pytest.raises(AirflowException, match="A retry speaks the text again") as raised:
        make(output_type="data", on_unknown="resubmit", transfer_timeout=0.2).execute(make_context())
    assert not isinstance(raised.value, AirflowFailException)


@pytest.mark.parametrize("fields", [{"audio_url": 7}, {"audio_url": "ftp://host/a.wav"}, {"audio_url": " "}], ids=repr)
def test_record_with_unusable_url_fails_until_clear(mps, make, store, fields):
    make().execute(attempt(store))
    store.set(STATE_KEY, {**store.get(STATE_KEY), **fields})
    with pytest.raises(AirflowFailException, match="Clear the task to speak it again"):
        make().execute(attempt(store, 2))
    make().execute(clear(store, 3))
    assert count_spoken(mps) == 2


@pytest.mark.parametrize(
    "fields",
    [{"ext_info": None}, {"ext_info": "x"}, {"sent_at": None}, {"sent_at": "now"}, {"max_tries": "3"}, {"later": 1}],
    ids=repr,
)
def test_record_of_another_version_is_used(mps, make, store, clip, fields):
    make().execute(attempt(store))
    clip.unlink()
    store.set(STATE_KEY, {**store.get(STATE_KEY), **fields})
    make().execute(attempt(store, 2))
    assert count_spoken(mps) == 1
    assert clip.exists()


def test_retry_stores_recorded_audio_without_connection(mps, make, store, clip, monkeypatch):
    fail_to_store(monkeypatch, lambda: make().execute(attempt(store)))
    monkeypatch.delenv("AIRFLOW_CONN_MPS_DEFAULT")
    make().execute(attempt(store, 2))
    assert clip.exists()


def test_text_file_missing_in_retry_records_end(mps, make, store, tmp_path, monkeypatch):
    file = tmp_path / "text.txt"
    file.write_text("Hello from a file")
    arguments = {"text": None, "text_path": f"file://{file}"}
    fail_to_store(monkeypatch, lambda: make(**arguments).execute(attempt(store)))
    file.unlink()
    with pytest.raises(AirflowFailException):
        make(**arguments).execute(attempt(store, 2))
    assert store.get(STATE_KEY)["has_ended"]


def test_response_with_url_and_data_has_requested_one(connect, make, store, clip):
    data = base64.b64encode(SAMPLE).decode()
    fields = {"AudioUrl": "http://127.0.0.1:9/clip.wav", "AudioData": f"{data[:76]}\r\n{data[76:]}"}
    with ScriptedServer(make_json_reply({"Response": {"ErrorCode": 0, "RequestId": "req-7", **fields}})) as server:
        connect(server.connection_uri())
        make(output_type="data").execute(attempt(store))
    assert clip.read_bytes() == SAMPLE


def test_data_in_place_of_url_takes_name_of_request_in_folder(connect, make, store, tmp_path):
    fields = {"AudioData": base64.b64encode(SAMPLE).decode()}
    with ScriptedServer(make_json_reply({"Response": {"ErrorCode": 0, "RequestId": "req-7", **fields}})) as server:
        connect(server.connection_uri())
        make(destination=f"file://{tmp_path}/").execute(attempt(store))
    assert (tmp_path / "req-7.wav").read_bytes() == SAMPLE


def test_record_that_cannot_be_stored_logs_no_url(mps, make, store, clip, capsys, monkeypatch):
    save = store.set

    def fail(key, value):
        if value["task_id"]:
            raise ValueError(f"invalid value {value}")
        save(key, value)

    monkeypatch.setattr(store, "set", fail)
    make().execute(attempt(store))
    printed = capsys.readouterr().out
    assert "could not store its id" in printed
    assert "sign=" not in printed
    assert clip.exists()


def test_clear_with_data_does_not_use_recorded_url(mps, make, store, clip, monkeypatch):
    fail_to_store(monkeypatch, lambda: make().execute(attempt(store)))
    make(output_type="data").execute(attempt(store, 2))  # no clear: nothing is billed again
    assert count_spoken(mps) == 1
    make(output_type="data").execute(clear(store, 3))
    assert count_spoken(mps) == 2
    assert store.get(STATE_KEY)["audio_url"] is None


def test_attempts_to_store_data_share_transfer_timeout(mps, make, store, monkeypatch):
    deadlines = []

    def fail(*_, deadline, **__):
        deadlines.append(deadline)
        raise AudioTransferError("The storage is down.")

    monkeypatch.setattr("airflow_provider_mps.storage.file.store_file", fail)
    with pytest.raises(AirflowFailException, match="The storage is down"):
        make(output_type="data", transfer_timeout=0.2).execute(attempt(store))
    assert len(deadlines) > 1
    assert len(set(map(id, deadlines))) == 1
    assert deadlines[0].get_seconds_left() <= 0


def test_voice_deleted_after_call_retry_stores_audio(mps, make, store, monkeypatch, clip):
    hook = MpsHook()
    voice_id = hook.clone_voice(b"RIFF" + bytes(4) + b"WAVE" + bytes(100), "Ann")
    fail_to_store(monkeypatch, lambda: make(voice_id=None, voice_name="Ann").execute(attempt(store)))
    hook.delete_voice(voice_id)
    make(voice_id=None, voice_name="Ann").execute(attempt(store, 2))
    assert clip.exists()
    assert count_spoken(mps) == 1


def test_kill_before_call_sends_nothing(mps, make, store, monkeypatch):
    operator = make()
    find = operator.hook.get_conn

    def kill():
        operator.on_kill()
        return find()

    monkeypatch.setattr(operator.hook, "get_conn", kill)
    with pytest.raises(AirflowException, match="so it was not submitted"):
        operator.execute(attempt(store))
    assert mps.actions == []
    assert store.get(STATE_KEY) is None


def kill_during_call(monkeypatch, operator):
    synthesize = operator.hook.synthesize

    def kill(request):
        speech = synthesize(request)
        operator.on_kill()
        return speech

    monkeypatch.setattr(operator.hook, "synthesize", kill)


def test_kill_during_call_stores_data(mps, make, store, clip, monkeypatch):
    operator = make(output_type="data")
    kill_during_call(monkeypatch, operator)
    operator.execute(attempt(store))
    assert clip.exists()


def test_kill_during_call_stores_url_in_retry(mps, make, store, clip, monkeypatch):
    operator = make()
    kill_during_call(monkeypatch, operator)
    with pytest.raises(AudioTransferStopped):
        operator.execute(attempt(store))
    make().execute(attempt(store, 2))
    assert clip.exists()
    assert count_spoken(mps) == 1


def test_kill_ends_retries_of_data(mps, make, store, monkeypatch):
    operator = make(output_type="data")

    def fail(*_, **__):
        operator.on_kill()
        raise AudioTransferError("The storage is down.")

    monkeypatch.setattr("airflow_provider_mps.storage.file.store_file", fail)
    with pytest.raises(AirflowFailException, match="The storage is down"):
        operator.execute(attempt(store))


def test_signed_url_is_masked_and_in_no_log(mps, make, store, caplog, capsys, monkeypatch):
    masked = []
    monkeypatch.setattr("airflow_provider_mps.redaction.mask_secret", masked.append)
    with caplog.at_level("DEBUG"):
        make().execute(attempt(store))
    url = store.get(STATE_KEY)["audio_url"]
    assert url.partition("?")[2] in masked
    printed = capsys.readouterr().out  # where Airflow 3 writes the operator's log
    assert "MPS has spoken the text" in printed + caplog.text
    assert url.partition("sign=")[2] not in printed + caplog.text


def test_data_is_the_audio_that_url_has(mps, make, tmp_path):
    paths = [tmp_path / f"{kind}.wav" for kind in OUTPUT_TYPES]
    for path, kind in zip(paths, OUTPUT_TYPES, strict=True):
        make(destination=f"file://{path}", output_type=kind).execute(make_context())
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert soundfile.info(io.BytesIO(paths[0].read_bytes())).format == "WAV"


def test_storage_fault_without_store_is_retried_in_attempt(mps, make, clip, monkeypatch):
    from airflow_provider_mps.storage import transfer

    calls, store_audio = [], transfer.store_audio

    def fail_once(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise AudioTransferError("The storage is down.")
        return store_audio(*arguments, **options)

    monkeypatch.setattr(transfer, "store_audio", fail_once)
    make().execute(make_context())
    assert clip.exists()
    assert (count_spoken(mps), len(calls)) == (1, 2)


def test_rejected_url_resubmit_speaks_again_in_retry(start_emulator, make, store):
    app = FaultyEmulator(Options(synthesis_time=0.0, voice="tone", link_lifetime=0.0))
    start_emulator(app)
    for number in (1, 2):
        with pytest.raises(AudioTransferError, match="rejected the URL"):
            make(on_unknown="resubmit").execute(attempt(store, number))
        assert count_spoken(app) == number


def test_stored_data_that_cannot_be_checked_is_not_spoken_again(mps, make, store, monkeypatch):
    make(output_type="data").execute(attempt(store))

    def deny(*_):
        raise DestinationError("There is no permission to read.")

    monkeypatch.setattr("airflow_provider_mps.operators.synthesize.find_existing_file", deny)
    with pytest.raises(AirflowFailException, match="is not stored at the destination"):
        make(output_type="data").execute(attempt(store, 2))
    assert count_spoken(mps) == 1
