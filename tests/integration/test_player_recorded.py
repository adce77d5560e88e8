"""What the Listen view finds in the database of a real Airflow."""

from airflow.utils.session import create_session

from airflow_provider_mps.player.recorded import RecordedAudio, find_recorded


def test_it_finds_what_the_task_instance_has_stored_and_no_other(run_dag, start_emulator, tmp_path):
    start_emulator()
    run = run_dag("text_to_speech", "text_to_speech", destination=f"file://{tmp_path}/clip.wav")
    run_id = run.instances["store"].run_id
    with create_session() as session:
        assert find_recorded("text_to_speech", run_id, "store", -1, session) == RecordedAudio(
            f"file://{tmp_path}/clip.wav", run.xcom("store", "VoiceId"), run.xcom("store", "duration")
        )
        assert find_recorded("text_to_speech", run_id, "submit", -1, session) is None
        assert find_recorded("text_to_speech", run_id, "store", 0, session) is None
        assert find_recorded("another", run_id, "store", -1, session) is None
        assert find_recorded("text_to_speech", "another", "store", -1, session) is None
