"""Full disks, file size limits and missing permissions, in a process with real limits."""

import json
from functools import partial

import pytest

from airflow_provider_mps.exceptions import DestinationError
from tests.processes import ChildProcess, drop_file_capabilities, mount_small_disk
from tests.store_alone import main as store_alone_main
from tests.storing import OLD, Bucket, Recording, make_wav, store

SECONDS = 100
"""Length of the audio: 3.2 MB."""
SMALL_DISK_BYTES = 2_000_000

pytestmark = pytest.mark.xdist_group("child_processes")


@pytest.fixture
def recording(start_emulator, tmp_path):
    recording = Recording(make_wav(tmp_path / "audio.wav", SECONDS))
    start_emulator(recording.app)
    return recording


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.fixture
def store_alone(recording, tmp_path):
    """Store the audio in a process with its own limits, and return the outcome."""

    def run(destination, *arguments, limits=(), **environment):
        with ChildProcess(
            store_alone_main,
            [recording.task_id, destination, *arguments],
            output=tmp_path / "output.txt",
            environment=environment,
            limits=limits,
        ) as process:
            printed = process.wait()
        assert "OUTCOME" in printed, printed
        outcome = json.loads(printed.rpartition("OUTCOME ")[2].splitlines()[0])
        assert recording.task_id in outcome["message"]
        return outcome

    return run


@pytest.fixture
def small_disk(folder):
    """Return limits that mount a small disk in the folder, for one process only."""
    skip_without_small_disk(folder)
    return [partial(mount_small_disk, folder, SMALL_DISK_BYTES)]


def skip_without_small_disk(folder):
    """Skip if this machine does not let a process mount a disk in its own namespace."""
    with ChildProcess(mount_small_disk, folder, SMALL_DISK_BYTES, output=folder.parent / "mount.txt") as process:
        process.wait()
        if process.exit_code:
            pytest.skip(f"no disk can be mounted in a namespace: {process.printed.splitlines()[-1:]}")


def test_full_disk_keeps_only_older_file(store_alone, folder, small_disk):
    destination = f"file://{folder}/clip.wav"
    outcome = store_alone(destination, "--put-old", f"--folder={folder}", limits=small_disk)
    assert outcome["error"] == "AudioTransferError"
    assert f"{destination} could not be written" in outcome["message"]
    assert "No space left on device" in outcome["message"]
    assert (outcome["old"], outcome["files"]) == (True, ["clip.wav"])


def test_file_above_process_limit_is_not_stored(store_alone, folder):
    (folder / "clip.wav").write_bytes(OLD)
    outcome = store_alone(f"file://{folder}/clip.wav", f"--largest-file={SMALL_DISK_BYTES}")
    assert outcome["error"] == "AudioTransferError"
    assert "File too large" in outcome["message"]
    assert outcome["old"]
    assert [file.name for file in folder.iterdir()] == ["clip.wav"]


@pytest.fixture
def outcome_with_full_temporary_folder(store_alone, folder, small_disk):
    arguments = ("--put-old", f"--folder={folder}")
    return store_alone("memory://clips/clip.wav", *arguments, limits=small_disk, TMPDIR=str(folder))


def test_full_temporary_folder_keeps_only_older_object(outcome_with_full_temporary_folder):
    outcome = outcome_with_full_temporary_folder
    assert outcome["error"] == "AudioTransferError"
    assert "No space left on device" in outcome["message"]
    assert (outcome["old"], outcome["files"]) == (True, [])


def test_full_temporary_folder_is_named_in_error(outcome_with_full_temporary_folder, folder):
    assert str(folder) in outcome_with_full_temporary_folder["message"]


def test_temporary_file_above_process_limit_leaves_nothing(store_alone, folder):
    outcome = store_alone(
        "memory://clips/clip.wav", "--put-old", f"--largest-file={SMALL_DISK_BYTES}", TMPDIR=str(folder)
    )
    assert outcome["error"] == "AudioTransferError"
    assert "File too large" in outcome["message"]
    assert outcome["old"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["clip.wav", "new/folder/clip.wav"])
def test_read_only_folder_raises_permission_error(store_alone, folder, name):
    (folder / "clip.wav").write_bytes(OLD)
    folder.chmod(0o500)
    try:
        outcome = store_alone(f"file://{folder}/{name}", limits=[drop_file_capabilities])
    finally:
        folder.chmod(0o700)
    assert outcome["error"] == "DestinationError"
    assert f"there is no permission to write file://{folder}/{name}" in outcome["message"]
    assert (folder / "clip.wav").read_bytes() == OLD
    assert [file.name for file in folder.iterdir()] == ["clip.wav"]


@pytest.mark.parametrize("seconds", [9, 660], ids=["in one request", "in parts"])
def test_missing_bucket_raises_destination_error(start_emulator, s3, tmp_path, seconds):
    recording = Recording(make_wav(tmp_path / "audio.wav", seconds))
    start_emulator(recording.app)
    bucket = Bucket(s3)
    bucket.uri = bucket.uri.replace("@clips/", "@missing/")
    with pytest.raises(DestinationError, match="bucket or folder does not exist") as caught:
        store(recording, bucket)
    assert bucket.uri in str(caught.value)
    assert recording.task_id in str(caught.value)
    assert not (s3.folder / "missing").exists()


@pytest.mark.parametrize("seconds", [9, 660], ids=["in one request", "in parts"])
def test_rejected_s3_key_raises_permission_error(start_emulator, s3, monkeypatch, tmp_path, seconds):
    recording = Recording(make_wav(tmp_path / "audio.wav", seconds))
    start_emulator(recording.app)
    bucket = Bucket(s3)
    bucket.put(OLD)
    monkeypatch.setenv(f"AIRFLOW_CONN_{s3.conn_id.upper()}", s3.connection(secret="wrong"))
    with pytest.raises(DestinationError, match="no permission to write") as caught:
        store(recording, bucket)
    assert bucket.uri in str(caught.value)
    assert recording.task_id in str(caught.value)
    assert bucket.read() == OLD
    assert bucket.list_leftovers() == []
