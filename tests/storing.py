"""Destinations, recordings and servers for tests that store audio."""

from __future__ import annotations

import os
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.emulator.faults import AudioFault, FaultKind, FaultSequence
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechToObjectStorageOperator
from tests.s3_server import S3Server

OLD = b"an older good object"
_BYTES_PER_SECOND = 32_000


class Destination(Protocol):
    uri: str

    def put(self, audio: bytes) -> None:
        """Create an older object."""

    def read(self) -> bytes | None:
        """Return the visible object."""

    def list_leftovers(self) -> list[str]:
        """List everything else, visible or not."""


class Folder:
    """A file on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.uri = f"file://{folder}/clip.wav"

    def put(self, audio: bytes) -> None:
        (self.folder / "clip.wav").write_bytes(audio)

    def read(self) -> bytes | None:
        file = self.folder / "clip.wav"
        return file.read_bytes() if file.exists() else None

    def list_leftovers(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.name != "clip.wav")


class Bucket(Folder):
    """An object in an S3 server (rclone), which keeps objects as files and parts in a hidden folder."""

    def __init__(self, s3: S3Server) -> None:
        self._client = s3.client()
        self.folder = s3.folder / "clips"
        self.uri = f"{s3.root}clip.wav"

    def list_leftovers(self) -> list[str]:
        visible = [path for path in super().list_leftovers() if not path.startswith(".rclone_temp_multipart_")]
        return [*visible, *(f"unfinished upload of {upload['Key']}" for upload in self._list_uploads())]

    def clear(self) -> None:
        """Remove what earlier tests have left."""
        # By a request, because rclone caches its objects; then also files that rclone does not know.
        self._client.delete_object(Bucket="clips", Key="clip.wav")
        (self.folder / "clip.wav").unlink(missing_ok=True)
        for upload in self._list_uploads():
            self._client.abort_multipart_upload(Bucket="clips", **upload)

    def count_uncommitted_bytes(self) -> int:
        """Return the bytes of uploaded parts that are in no object yet."""
        return sum(self._count_bytes(upload) for upload in self._list_uploads())

    def _count_bytes(self, upload: dict[str, str]) -> int:
        try:
            parts = self._client.list_parts(Bucket="clips", **upload).get("Parts", [])
        except self._client.exceptions.NoSuchUpload:  # aborted or completed meanwhile
            return 0
        return sum(part["Size"] for part in parts)

    def _list_uploads(self) -> list[dict[str, str]]:
        try:
            uploads = self._client.list_multipart_uploads(Bucket="clips").get("Uploads", [])
        except self._client.exceptions.NoSuchUpload:  # rclone's response if there are none
            return []
        return [{"Key": upload["Key"], "UploadId": upload["UploadId"]} for upload in uploads]


def make_wav(path: Path, seconds: int) -> Path:
    """Write a WAV of random samples."""
    with wave.open(str(path), "wb") as audio:
        audio.setparams((1, 2, _BYTES_PER_SECOND // 2, 0, "NONE", ""))
        audio.writeframes(os.urandom(seconds * _BYTES_PER_SECOND))
    return path


class FaultsByAudio:
    """Replaces the emulator's faults, which are the same for every audio."""

    def __init__(self) -> None:
        self.by_name: dict[str, FaultSequence] = {}

    def next_for(self, name: str) -> FaultKind | None:
        return self.by_name[name].next_for(name)

    def count(self, name: str) -> None:
        self.by_name[name].count(name)


class Recording:
    """
    A finished task of an emulator, whose download has faults.

    :param audio: the WAV file
    :param faults: as the emulator's command takes them, separated by ", "
    :param app: an emulator; by default, a new one
    """

    def __init__(self, audio: Path, faults: str = "", app: Any = None) -> None:
        self.app = app or self.make_app()
        self._task = self.app.state.tasks.add(audio, "voice-1")
        self.task_id = self._task.task_id
        sequence = FaultSequence(AudioFault.parse(fault) for fault in faults.split(", ") if fault)
        self.app.routes[0].endpoint.__self__.faults.by_name[self._task.name] = sequence

    @staticmethod
    def make_app() -> Any:
        app = make_app(Options(synthesis_time=0.0, voice="tone", rate_limit=1000))
        app.routes[0].endpoint.__self__.faults = FaultsByAudio()
        return app

    def read(self) -> bytes:
        """Return the current audio, which a fault may have replaced."""
        return self.app.state.tasks.audio(self._task).path.read_bytes()


@dataclass
class Servers:
    """An emulator and an S3 server, started once for all tests of a module."""

    app: Any
    s3: S3Server

    def record(self, audio: Path, faults: str = "") -> Recording:
        return Recording(audio, faults, self.app)

    def bucket(self) -> Bucket:
        bucket = Bucket(self.s3)
        bucket.clear()
        return bucket


def run_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Start both servers and define their connections; for a module-scoped fixture."""
    app = Recording.make_app()
    with (
        RunningEmulator(app=app) as emulator,
        S3Server(tmp_path_factory.mktemp("s3")) as s3,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AIRFLOW_CONN_MPS_DEFAULT", emulator.connection_uri)
        patch.setenv(f"AIRFLOW_CONN_{s3.conn_id.upper()}", s3.connection())
        yield Servers(app, s3)


def open_destination(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Destination:
    """Return a destination; for a fixture with params that contain "file" or "s3"."""
    return servers.bucket() if "s3" in request.param else Folder(tmp_path / "clips")


class FakeTaskInstance:
    """Keeps the XComs that an operator pushes."""

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


def store(recording: Recording, destination: Destination, **options: Any) -> dict[str, Any]:
    """Execute the operator without a running Airflow, and return its XComs."""
    return store_at(recording.task_id, destination.uri, **options)


def store_at(mps_task_id: str, destination: str, **options: Any) -> dict[str, Any]:
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=mps_task_id, destination=destination, **options
    )
    instance = FakeTaskInstance()
    assert operator.execute({"ti": instance}) == destination
    return instance.xcoms
