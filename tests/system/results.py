"""What a DAG run has left, read from any object storage."""

import wave

from airflow.providers.common.compat.sdk import ObjectStoragePath


def open_file(path):
    return ObjectStoragePath(path).open("rb")


def list_clips(path):
    return [each for each in ObjectStoragePath(path).rglob("*") if each.suffix == ".wav"]


def read_duration(path):
    with open_file(path) as file, wave.open(file) as audio:
        return audio.getnframes() / audio.getframerate()


def require_success(run):
    assert run.state == "success"
    assert {state for state, _ in run.tasks.values()} == {"success"}
