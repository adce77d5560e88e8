"""Store audio in tests: where it goes, what others see there, and what is left besides."""

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
_BYTES_A_SECOND = 32_000


class Place(Protocol):
    destination: str

    def put(self, audio: bytes) -> None:
        """Let an object be there already."""

    def seen(self) -> bytes | None:
        """What a reader finds at the destination."""

    def litter(self) -> list[str]:
        """Everything else that is there, visible or not."""


class Folder:
    """A file of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.destination = f"file://{folder}/clip.wav"

    def put(self, audio: bytes) -> None:
        (self.folder / "clip.wav").write_bytes(audio)

    def seen(self) -> bytes | None:
        file = self.folder / "clip.wav"
        return file.read_bytes() if file.exists() else None

    def litter(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.name != "clip.wav")


class Bucket(Folder):
    """An object in a real S3 server. rclone keeps objects as files, and the parts of an upload in a hidden folder."""

    def __init__(self, s3: S3Server) -> None:
        self._client = s3.client()
        self.folder = s3.folder / "clips"
        self.destination = f"{s3.root}clip.wav"

    def litter(self) -> list[str]:
        visible = [path for path in super().litter() if not path.startswith(".rclone_temp_multipart_")]
        return [*visible, *(f"unfinished upload of {upload['Key']}" for upload in self._uploads())]

    def clear(self) -> None:
        """Forget what a test before this one has left, on purpose or not."""
        # First by a request, for rclone remembers what it has seen there, and then what it has never seen.
        self._client.delete_object(Bucket="clips", Key="clip.wav")
        (self.folder / "clip.wav").unlink(missing_ok=True)
        for upload in self._uploads():
            self._client.abort_multipart_upload(Bucket="clips", **upload)

    def unseen_bytes(self) -> int:
        """Bytes of parts that were uploaded and are in no object yet."""
        return sum(self._bytes_of(upload) for upload in self._uploads())

    def _bytes_of(self, upload: dict[str, str]) -> int:
        try:
            parts = self._client.list_parts(Bucket="clips", **upload).get("Parts", [])
        except self._client.exceptions.NoSuchUpload:  # aborted or completed since it was listed
            return 0
        return sum(part["Size"] for part in parts)

    def _uploads(self) -> list[dict[str, str]]:
        try:
            uploads = self._client.list_multipart_uploads(Bucket="clips").get("Uploads", [])
        except self._client.exceptions.NoSuchUpload:  # rclone's way to say that there are none
            return []
        return [{"Key": upload["Key"], "UploadId": upload["UploadId"]} for upload in uploads]


def make_wav(path: Path, seconds: int) -> Path:
    """Write a WAV of which no two parts are alike."""
    with wave.open(str(path), "wb") as audio:
        audio.setparams((1, 2, _BYTES_A_SECOND // 2, 0, "NONE", ""))
        audio.writeframes(os.urandom(seconds * _BYTES_A_SECOND))
    return path


class FaultsOfEach:
    """In the place of an emulator's faults, which are the same for every audio: others for each."""

    def __init__(self) -> None:
        self.of: dict[str, FaultSequence] = {}

    def next_for(self, name: str) -> FaultKind | None:
        return self.of[name].next_for(name)

    def count(self, name: str) -> None:
        self.of[name].count(name)


class Recording:
    """
    A finished task of an emulator, whose audio meets faults.

    :param audio: a file of its own, which stays where it is
    :param faults: as the emulator's command takes them, with ", " between them
    :param app: an emulator that has served others before; made where there is none
    """

    def __init__(self, audio: Path, faults: str = "", app: Any = None) -> None:
        self.app = app or self.make_app()
        self._task = self.app.state.tasks.add(audio, "voice-1")
        self.task_id = self._task.task_id
        met = FaultSequence(AudioFault.parse(fault) for fault in faults.split(", ") if fault)
        self.app.routes[0].endpoint.__self__.faults.of[self._task.name] = met

    @staticmethod
    def make_app() -> Any:
        app = make_app(Options(synthesis_time=0.0, voice="tone", rate_limit=1000))
        app.routes[0].endpoint.__self__.faults = FaultsOfEach()
        return app

    def read(self) -> bytes:
        """The audio as it is now, for a fault may have replaced it."""
        return self.app.state.tasks.audio(self._task).path.read_bytes()


@dataclass
class Servers:
    """An emulator and an S3 server for all tests of a module: starting them takes longer than most of those."""

    app: Any
    s3: S3Server

    def record(self, audio: Path, faults: str = "") -> Recording:
        return Recording(audio, faults, self.app)

    def bucket(self) -> Bucket:
        bucket = Bucket(self.s3)
        bucket.clear()
        return bucket


def run_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Make a fixture of it, with the scope of a module; both connections are made."""
    app = Recording.make_app()
    with (
        RunningEmulator(app=app) as emulator,
        S3Server(tmp_path_factory.mktemp("s3")) as s3,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AIRFLOW_CONN_MPS_DEFAULT", emulator.connection_uri)
        patch.setenv(f"AIRFLOW_CONN_{s3.conn_id.upper()}", s3.connection())
        yield Servers(app, s3)


def open_place(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Place:
    """Make a fixture of it, with params that say "file" or "s3"."""
    return servers.bucket() if "s3" in request.param else Folder(tmp_path / "clips")


class Instance:
    """Takes the XComs that an operator pushes."""

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


def store(recording: Recording, place: Place, **options: Any) -> dict[str, Any]:
    """Do what the task does, without an Airflow around it; return its XComs."""
    return store_at(recording.task_id, place.destination, **options)


def store_at(mps_task_id: str, destination: str, **options: Any) -> dict[str, Any]:
    operator = TextToSpeechToObjectStorageOperator(
        task_id="store", mps_task_id=mps_task_id, destination=destination, **options
    )
    instance = Instance()
    assert operator.execute({"ti": instance}) == destination
    return instance.xcoms
