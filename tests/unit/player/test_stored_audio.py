from types import SimpleNamespace

import pytest
from airflow.sdk.bases.xcom import BaseXCom

from airflow_provider_mps.player.stored_audio import (
    RecordedAudio,
    UnreadableXComError,
    find_recorded_audio,
    has_custom_backend,
    is_in_xcom_storage,
)
from tests.xcom_backends import FileXComBackend

PUSHED = {"return_value": "file:///clips/clip.wav", "VoiceId": "voice-1", "duration": 1.5}


def found(pushed):
    rows = [SimpleNamespace(key=key, value=value) for key, value in pushed.items()]
    session = SimpleNamespace(execute=lambda _: rows, close=lambda: None)
    return find_recorded_audio("d", "r", "t", -1, session)


def test_recorded_audio_is_what_the_operator_pushes():
    assert found(PUSHED) == RecordedAudio("file:///clips/clip.wav", "voice-1", 1.5)


def test_value_that_mps_did_not_report_is_none():
    assert found({**PUSHED, "VoiceId": None, "duration": None}) == RecordedAudio("file:///clips/clip.wav", None, None)


@pytest.mark.parametrize("missing", PUSHED)
def test_task_without_all_xcoms_has_no_audio(missing):
    assert found({key: value for key, value in PUSHED.items() if key != missing}) is None


@pytest.mark.parametrize("returned", [None, 1, ["file:///clip.wav"], {"path": "x"}])
def test_return_value_must_be_a_path(returned):
    assert found({**PUSHED, "return_value": returned}) is None


TRIAL = {**PUSHED, "return_value": "voice-1", "trial_audio": "file:///clips/trial.mp3"}
"""What an operator of voices pushes."""


def test_trial_audio_takes_precedence_over_the_return_value():
    assert found(TRIAL) == RecordedAudio("file:///clips/trial.mp3", "voice-1", 1.5)
    assert found({**TRIAL, "trial_audio": '"file:///trial.mp3"'}).path == "file:///trial.mp3"


def test_trial_audio_without_return_value_is_found():
    """A task with ``do_xcom_push=False`` returns nothing to the database."""
    assert found({key: value for key, value in TRIAL.items() if key != "return_value"}).path == TRIAL["trial_audio"]


def test_voice_without_trial_audio_has_no_audio():
    assert found({"return_value": "voice-1", "VoiceId": "voice-1", "AudioUrl": "https://x/trial.mp3"}) is None


@pytest.mark.parametrize("path", [None, 1, ["file:///clip.wav"]])
def test_trial_audio_must_be_a_path(path):
    assert found({**TRIAL, "trial_audio": path}) is None


def test_query_selects_trial_audio():
    statements = []
    session = SimpleNamespace(execute=lambda statement: statements.append(statement) or [], close=lambda: None)
    find_recorded_audio("d", "r", "t", -1, session)
    selected = str(statements[0].compile(compile_kwargs={"literal_binds": True}))
    assert all(f"'{key}'" in selected for key in TRIAL)


@pytest.mark.parametrize("duration", ["long", float("nan"), [1], True, -1, 10**400])
def test_value_of_another_type_is_none(duration):
    assert found({**PUSHED, "VoiceId": {"a": 1}, "duration": duration}) == RecordedAudio(
        PUSHED["return_value"], None, None
    )


@pytest.mark.parametrize(
    "value",
    [
        '{"__classname__": "airflow.no.such.Class", "__version__": 1, "__data__": "x"}',
        '{"__classname__": "os.system", "__version__": 1, "__data__": "id"}',
        "[" * 100_000,
    ],
)
def test_value_that_names_a_class_is_not_instantiated(value):
    recorded = found({**PUSHED, "return_value": value})
    assert recorded is None or recorded.path == value


def test_value_stored_as_json_is_parsed():
    assert found({**PUSHED, "return_value": '"file:///clip.wav"', "duration": "2.5"}).duration == 2.5


def test_voice_id_of_digits_is_text():
    assert found({**PUSHED, "VoiceId": "101001"}).voice_id == "101001"
    assert found({**PUSHED, "VoiceId": "null"}).voice_id is None


@pytest.fixture
def file_backend(monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "tests.xcom_backends.FileXComBackend")
    monkeypatch.setenv("XCOM_FOLDER", str(tmp_path))
    return FileXComBackend


@pytest.fixture
def object_storage(monkeypatch, tmp_path):
    """Configure Airflow's own backend; yields a function that sets its threshold and compression, and returns it."""
    from airflow.providers.common.io.xcom import backend as module

    settings = (module._get_base_path, module._get_threshold, module._get_compression)

    def configure(threshold, compression="", folder=f"file://{tmp_path}/xcoms"):
        monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", f"{module.__name__}.XComObjectStorageBackend")
        monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", folder)
        monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD", str(threshold))
        monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_COMPRESSION", compression)
        for setting in settings:
            setting.cache_clear()
        return module.XComObjectStorageBackend

    yield configure
    for setting in settings:
        setting.cache_clear()


def stored(backend, pushed=PUSHED):
    """What a worker with this backend leaves in the database."""
    names = {"task_id": "t", "dag_id": "d", "run_id": "r", "map_index": -1}
    return {key: backend.serialize_value(value, key=key, **names) for key, value in pushed.items()}


def test_custom_backend_deserializes_its_values(file_backend):
    in_database = stored(file_backend)
    assert all(value.startswith("xcom-file:") for value in in_database.values())
    assert found(in_database) == RecordedAudio("file:///clips/clip.wav", "voice-1", 1.5)


@pytest.mark.parametrize(("threshold", "references"), [(-1, 0), (0, 3), (12, 1), (1_000, 0)])
@pytest.mark.parametrize("compression", ["", "gzip"])
def test_values_in_object_storage_are_read_from_there(object_storage, threshold, references, compression):
    in_database = stored(object_storage(threshold, compression))
    assert sum("/xcoms/" in str(value) for value in in_database.values()) == references
    assert found(in_database) == RecordedAudio("file:///clips/clip.wav", "voice-1", 1.5)


def test_trial_audio_in_object_storage_is_read_from_there(object_storage):
    assert found(stored(object_storage(0), TRIAL)) == RecordedAudio("file:///clips/trial.mp3", "voice-1", 1.5)


def test_null_in_object_storage_is_none(object_storage):
    in_database = stored(object_storage(0), {**PUSHED, "VoiceId": None, "duration": None})
    assert found(in_database) == RecordedAudio("file:///clips/clip.wav", None, None)


def test_json_text_with_a_custom_backend_is_parsed(file_backend, object_storage):
    """A trigger that ends its task pushes past the backend."""
    for backend in (None, object_storage(0)):
        pushed = {"return_value": '"file:///clips/clip.wav"', "VoiceId": '"voice-1"', "duration": "1.5"}
        assert found(pushed) == RecordedAudio("file:///clips/clip.wav", "voice-1", 1.5), backend


def test_value_that_is_not_a_text_skips_the_backend(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "tests.xcom_backends.LeakyXComBackend")
    named = {"__classname__": "airflow.no.such.Class", "__version__": 1, "__data__": "x"}
    assert found({"return_value": named, "VoiceId": None, "duration": 1.5}) is None


def test_database_connection_is_released_before_backend_reads(file_backend, monkeypatch):
    events = []
    rows = [SimpleNamespace(key=key, value=value) for key, value in stored(file_backend).items()]
    session = SimpleNamespace(execute=lambda _: rows, close=lambda: events.append("closed"))
    read = FileXComBackend.deserialize_value
    monkeypatch.setattr(FileXComBackend, "deserialize_value", lambda xcom: events.append("read") or read(xcom))
    find_recorded_audio("d", "r", "t", -1, session)
    assert events == ["closed", "read", "read", "read"]


def test_backend_that_fails_is_an_error_without_its_url(monkeypatch, caplog):
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "tests.xcom_backends.LeakyXComBackend")
    with pytest.raises(UnreadableXComError, match="the XCom backend raised RuntimeError") as caught:
        found(PUSHED)
    assert "The XCom backend cannot read the XCom" in caplog.text
    for text in (str(caught.value), caplog.text):
        assert "Signature" not in text


@pytest.mark.parametrize("name", ["no_such_package.Backend", "tests.xcom_backends.NoSuchBackend", "json.JSONDecoder"])
def test_backend_that_cannot_be_imported_is_explained(monkeypatch, name):
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", name)
    assert has_custom_backend()
    with pytest.raises(UnreadableXComError, match="cannot import the class that"):
        found(PUSHED)


def test_airflows_own_class_is_not_a_custom_backend(monkeypatch):
    assert not has_custom_backend()
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", f"{BaseXCom.__module__}.BaseXCom")
    assert not has_custom_backend()


def test_path_in_xcom_storage_is_recognised(object_storage):
    object_storage(0, folder="s3://conn@bucket/xcoms")
    assert is_in_xcom_storage("s3://conn@bucket/xcoms/d/r/t/x.json")
    assert not is_in_xcom_storage("s3://conn@bucket/xcoms-2/clip.wav")
    assert not is_in_xcom_storage("s3://conn@bucket/clip.wav")


def test_no_path_is_in_xcom_storage_if_none_is_configured():
    assert not is_in_xcom_storage("s3://conn@bucket/xcoms/d/r/t/x.json")
