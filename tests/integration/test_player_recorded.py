"""What the Listen view finds in the database of a real Airflow."""

from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_provider_mps.player.stored_audio import RecordedAudio, find_recorded_audio
from tests.xcom_backends import FileXComBackend


def test_recorded_audio_is_of_its_task_instance_only(run_dag, start_emulator, tmp_path):
    start_emulator()
    run = run_dag("text_to_speech", "text_to_speech", destination=f"file://{tmp_path}/clip.wav")
    run_id = run.instances["store"].run_id
    with create_session() as session:
        assert find_recorded_audio("text_to_speech", run_id, "store", -1, session) == RecordedAudio(
            f"file://{tmp_path}/clip.wav", run.xcom("store", "VoiceId"), run.xcom("store", "duration")
        )
        assert find_recorded_audio("text_to_speech", run_id, "submit", -1, session) is None
        assert find_recorded_audio("text_to_speech", run_id, "store", 0, session) is None
        assert find_recorded_audio("another", run_id, "store", -1, session) is None
        assert find_recorded_audio("text_to_speech", "another", "store", -1, session) is None


def test_recorded_audio_is_found_with_an_xcom_backend(run_dag, start_emulator, tmp_path, monkeypatch):
    start_emulator()
    run = run_dag("text_to_speech", "text_to_speech", destination=f"file://{tmp_path}/clip.wav")
    run_id = run.instances["store"].run_id
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "tests.xcom_backends.FileXComBackend")
    monkeypatch.setenv("XCOM_FOLDER", str(tmp_path))
    with create_session() as session:
        query = select(XComModel).where(XComModel.run_id == run_id, XComModel.task_id == "store")
        before = find_recorded_audio("text_to_speech", run_id, "store", -1, session)
        for xcom in session.scalars(query):
            xcom.value = FileXComBackend.serialize_value(xcom.value)
    with create_session() as session:
        assert find_recorded_audio("text_to_speech", run_id, "store", -1, session) == before
        assert find_recorded_audio("text_to_speech", run_id, "submit", -1, session) is None
    assert before is not None
