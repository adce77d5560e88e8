"""The ways of storing that the benchmarks compare, and the fresh process that each is measured in."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from benchmarks.storing_memory import PeakMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    Store = Callable[["Item"], Any]

BUCKET = "clips"
CONN_ID = "s3_storing"
HTTP_CONN_ID = "http_storing"
BLOCK = 1024 * 1024


class Item(NamedTuple):
    """One file to store."""

    url: str
    """Where it can be downloaded."""
    file: str
    """The same on the disk, for those who only upload."""
    key: str
    root: str
    """The bucket or folder that ``key`` is in, as ``ObjectStoragePath`` takes it."""

    @property
    def local(self) -> Path:
        """Where it goes, of a root on this machine."""
        return Path(urlsplit(self.root).path) / self.key


def _ours() -> Store:
    from airflow.providers.common.compat.sdk import ObjectStoragePath  # noqa: PLC0415

    store_audio = _import_store_audio()

    def store(item: Item) -> None:
        store_audio(
            item.url,
            ObjectStoragePath(f"{item.root}/{item.key}"),
            get_fresh_url=lambda: item.url,
            subject="task benchmark",
            log=logging.getLogger("benchmark"),
        )

    return store


def _import_store_audio() -> Any:
    try:
        return import_module("airflow_provider_mps.storage.transfer").store_audio
    except ImportError:  # version 1.0
        store_audio = import_module("airflow_provider_mps.audio").store_audio
        return lambda *arguments, get_fresh_url, **options: store_audio(*arguments, fresh_url=get_fresh_url, **options)


def _other_version() -> Store:
    sys.path[:0] = os.environ[OTHER_VERSION].split(os.pathsep)
    return _ours()


def _operator() -> Store:
    from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator  # noqa: PLC0415

    def store(item: Item) -> None:
        HttpToS3Operator(
            task_id="store",
            http_conn_id=HTTP_CONN_ID,
            endpoint=urlsplit(item.url).path,
            s3_bucket=BUCKET,
            s3_key=item.key,
            replace=True,
            aws_conn_id=CONN_ID,
        ).execute({})

    return store


def _loop() -> Store:
    import requests  # noqa: PLC0415

    return _make_loop(requests)


def _loop_with_session() -> Store:
    import requests  # noqa: PLC0415

    return _make_loop(requests.Session())


def _make_loop(client: Any) -> Store:
    from airflow.providers.common.compat.sdk import ObjectStoragePath  # noqa: PLC0415

    def store(item: Item) -> None:
        path = ObjectStoragePath(f"{item.root}/{item.key}")
        with client.get(item.url, stream=True, timeout=30) as response, path.open("wb") as file:
            response.raise_for_status()
            for block in response.iter_content(BLOCK):
                file.write(block)

    return store


def _put() -> Store:
    from airflow.providers.common.compat.sdk import ObjectStoragePath  # noqa: PLC0415

    content: dict[str, bytes] = {}

    def store(item: Item) -> None:
        path = ObjectStoragePath(f"{item.root}/{item.key}")
        if item.file not in content:
            content[item.file] = Path(item.file).read_bytes()
        path.fs.pipe_file(path.path, content[item.file])

    return store


def _upload_fileobj(**settings: Any) -> Callable[[], Store]:
    def prepare() -> Store:
        import requests  # noqa: PLC0415

        client, config = _boto3(settings)

        def store(item: Item) -> None:
            with requests.get(item.url, stream=True, timeout=30) as response:
                response.raise_for_status()
                client.upload_fileobj(response.raw, BUCKET, item.key, Config=config)

        return store

    return prepare


def _upload_file(**settings: Any) -> Callable[[], Store]:
    def prepare() -> Store:
        client, config = _boto3(settings)
        return lambda item: client.upload_file(item.file, BUCKET, item.key, Config=config)

    return prepare


def _boto3(settings: dict[str, Any]) -> tuple[Any, Any]:
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415
    from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]  # noqa: PLC0415

    return boto3.client("s3"), TransferConfig(**settings)


def _copyfileobj() -> Store:
    import requests  # noqa: PLC0415

    def store(item: Item) -> None:
        with requests.get(item.url, stream=True, timeout=30) as response, item.local.open("wb") as file:
            response.raise_for_status()
            shutil.copyfileobj(response.raw, file)

    return store


def _copyfile() -> Store:
    def store(item: Item) -> None:
        shutil.copyfile(item.file, item.local)
        with item.local.open("rb") as file:
            os.fsync(file.fileno())

    return store


@dataclass(frozen=True)
class Candidate:
    """One way of storing."""

    title: str
    prepare: Callable[[], Store]
    """Imports what it needs, and returns what stores one file."""
    downloads: bool = True


OURS, OTHER, LOOP = "ours", "other", "loop"
OTHER_VERSION = "BENCHMARK_OTHER_VERSION"
"""Environment variable with the folders to import another version of this provider from."""
ONE_THREAD = {"use_threads": False, "max_concurrency": 1}
"""boto3's fastest setting on a machine whose cores the server shares."""
CANDIDATES = {
    "s3": {
        OURS: Candidate("this provider", _ours),
        "operator": Candidate("HttpToS3Operator", _operator),
        "loop": Candidate("read/write loop into ObjectStoragePath", _loop),
        "fileobj": Candidate("requests to boto3.upload_fileobj", _upload_fileobj()),
        "fileobj-1": Candidate("the same in one thread", _upload_fileobj(**ONE_THREAD)),
        "alone": Candidate("the upload alone: boto3.upload_file", _upload_file(), downloads=False),
        "alone-1": Candidate("the upload alone in one thread", _upload_file(**ONE_THREAD), downloads=False),
    },
    "file": {
        OURS: Candidate("this provider", _ours),
        "loop": Candidate("read/write loop into ObjectStoragePath", _loop),
        "copyfileobj": Candidate("requests to shutil.copyfileobj", _copyfileobj),
        "alone": Candidate("the write alone: shutil.copyfile, fsync", _copyfile, downloads=False),
    },
}


CLIP_CANDIDATES = {
    OURS: Candidate("this provider", _ours),
    OTHER: Candidate("the other version", _other_version),
    LOOP: Candidate("read/write loop into ObjectStoragePath", _loop),
    "session": Candidate("the same with one session for all clips", _loop_with_session),
    "put": Candidate("the write alone: filesystem.pipe_file", _put, downloads=False),
}
"""For many small files."""


def measure(candidate: Candidate, warm_up: Item, items: list[Item], at_once: int = 1) -> dict[str, Any]:
    """Store the items, so many at a time, and return what it took."""
    store = candidate.prepare()
    store(warm_up)  # connects, and imports what is only imported on the way
    with PeakMemory() as peak, ThreadPoolExecutor(at_once) as pool:
        started, cpu = time.perf_counter(), time.process_time()
        each = map if at_once == 1 else pool.map
        errors = list(each(lambda item: _try(store, item), items))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "mb": peak.above / 1e6, "errors": errors}


def store_at_once(candidate: Candidate, warm_up: Item, items: list[Item]) -> dict[str, Any]:
    """Store the items at once, which is no matter of speed, and return how it ended."""
    store = candidate.prepare()
    store(warm_up)
    started = time.perf_counter()
    with ThreadPoolExecutor(len(items)) as pool:
        errors = list(pool.map(lambda item: _try(store, item), items))
    return {"seconds": time.perf_counter() - started, "errors": errors}


def _try(store: Store, item: Item) -> str | None:
    """Store it, and return the error that it ended with."""
    try:
        store(item)
    except Exception as error:  # noqa: BLE001 - how it ends is part of what is measured
        return f"{type(error).__name__}: {error}"
    return None


def main() -> None:
    """Do what the command line says, with the items on standard input."""
    what, scheme, name = sys.argv[1:]
    warm_up, *items = (Item(*item) for item in json.load(sys.stdin))
    candidate = {**CLIP_CANDIDATES, **CANDIDATES[scheme]}[name]
    match what.partition(":"):
        case ["measure", _, at_once]:
            result = measure(candidate, warm_up, items, int(at_once or 1))
        case _:
            result = store_at_once(candidate, warm_up, items)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
