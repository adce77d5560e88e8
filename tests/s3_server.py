"""A real S3 server that verifies signatures: rclone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

from dev.programs import free_port
from tests.programs import require_program


class S3Server:
    """
    Serves the folders in ``folder`` as buckets, while the ``with`` block runs.

    Each server has its own ``conn_id``, because Airflow caches a filesystem per connection id in a process.
    """

    key = "s3-key"
    secret = "s3-secret"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.conn_id = f"s3_{self.port}"
        self.root = f"s3://{self.conn_id}@clips/"

    def __enter__(self) -> S3Server:
        self.make_bucket("clips")
        command = [require_program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{self.port}"]
        command += ["--auth-key", f"{self.key},{self.secret}", "--vfs-cache-mode", "off", str(self.folder)]
        environment = {**os.environ, "RCLONE_CONFIG": "/dev/null"}
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < deadline, "rclone did not start"
                time.sleep(0.05)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # on SIGTERM, it waits for its clients
        self._process.wait()

    def make_bucket(self, name: str) -> None:
        (self.folder / name).mkdir(parents=True, exist_ok=True)

    @property
    def extra(self) -> dict[str, str]:
        """The extra of the connection."""
        return {"endpoint_url": self.url, "region_name": "us-east-1"}

    def connection(self, key: str = key, secret: str = secret, url: str | None = None) -> str:
        """Return an Airflow connection of type aws, as JSON."""
        extra = {**self.extra, **({"endpoint_url": url} if url else {})}
        return json.dumps({"conn_type": "aws", "login": key, "password": secret, "extra": extra})

    def seen(self, key: str, bucket: str = "clips") -> bytes | None:
        """Return the content of an object; ``None`` if there is none."""
        file = self.folder / bucket / key
        return file.read_bytes() if file.exists() else None

    def client(self):
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
        )

    def unfinished_uploads(self, bucket: str = "clips") -> list[str]:
        """Return the keys of multipart uploads that were neither completed nor aborted."""
        client = self.client()
        try:
            return [upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]
        except client.exceptions.NoSuchUpload:  # rclone reports this if there are none
            return []
