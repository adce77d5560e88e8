import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

from airflow_provider_mps.exceptions import DestinationError
from airflow_provider_mps.storage import objects
from airflow_provider_mps.storage.objects import (
    create_object,
    read_object,
    remove_objects,
    replace_object,
    write_object,
)
from airflow_provider_mps.storage.writers.base import WriteReceipt


@pytest.fixture
def path(tmp_path):
    return ObjectStoragePath(f"file://{tmp_path}/state/lock.json")


@pytest.fixture(params=[False, True], ids=["hard links", "no hard links"])
def mount(request, monkeypatch):
    """Run on a mount with hard links, and on one without."""

    def deny(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    if request.param:
        monkeypatch.setattr(os, "link", deny)


@pytest.mark.usefixtures("mount")
class TestCreateObject:
    def test_create_object_keeps_existing_object(self, path):
        assert create_object(path, b"first")
        assert not create_object(path, b"second")
        assert read_object(path) == b"first"
        assert [each.name for each in path.parent.iterdir()] == ["lock.json"]

    def test_create_object_by_concurrent_writers_succeeds_once(self, path):
        barrier = threading.Barrier(8)

        def create(number):
            barrier.wait()
            return create_object(path, b"%d" % number)

        with ThreadPoolExecutor(8) as workers:
            created = list(workers.map(create, range(8)))
        assert created.count(True) == 1
        assert read_object(path) == b"%d" % created.index(True)
        assert [each.name for each in path.parent.iterdir()] == ["lock.json"]


def test_replace_object_on_local_disk_starts_no_thread(path, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda _: pytest.fail("a thread was started"))
    replace_object(path, b"first")
    replace_object(path, b"second")
    assert read_object(path) == b"second"


class BlockWriter:
    """Records the blocks that it is given."""

    def __init__(self):
        self.blocks = []
        self.is_committed = self.is_discarded = False

    def get_block_size(self, written):
        return 10 if written < 20 else 20

    def write(self, block):
        self.blocks.append(bytes(block))
        return block

    def commit(self):
        self.is_committed = True
        return WriteReceipt()

    def discard(self):
        self.is_discarded = True


@pytest.fixture
def writer(monkeypatch):
    writer = BlockWriter()
    monkeypatch.setattr(objects, "open_writer", lambda *_, **__: writer)
    return writer


@pytest.mark.parametrize("size", [1, 7, 10, 33, 200])
def test_write_object_sends_blocks_of_writer_size(path, writer, size):
    content = os.urandom(75)
    blocks = [content[first : first + size] for first in range(0, len(content), size)]
    assert write_object(path, blocks) == 75
    assert b"".join(writer.blocks) == content
    assert [len(block) for block in writer.blocks] == [10, 10, 20, 20, 15]
    assert writer.is_committed
    assert not writer.is_discarded


def test_write_object_discards_if_blocks_raise(path, writer):
    def blocks():
        yield b"some"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_object(path, blocks())
    assert writer.is_discarded
    assert not writer.is_committed


@pytest.fixture
def _memory():
    attach("memory", fs=fsspec.filesystem("memory"))


@pytest.mark.usefixtures("_memory")
@pytest.mark.parametrize("kind", ["memory", "asynchronous"])
def test_remove_objects_removes_all_and_ignores_missing_ones(tmp_path, monkeypatch, kind):
    folder = ObjectStoragePath(f"memory://bucket{tmp_path}/[a] folder")
    if kind == "asynchronous":
        wrapped = AsyncFileSystemWrapper(folder.fs, asynchronous=False)
        monkeypatch.setattr(objects, "get_filesystem", lambda *_: wrapped)
    paths = [folder / f"{number}.jsonl" for number in range(3 * objects.CONCURRENT_REMOVALS)]
    for path in paths[1:]:
        folder.fs.pipe_file(path.path, b"content")
    remove_objects(paths)
    assert folder.fs.find(folder.path) == []


@pytest.mark.usefixtures("_memory")
def test_remove_objects_reports_an_error(tmp_path, monkeypatch):
    folder = ObjectStoragePath(f"memory://bucket{tmp_path}/folder")
    wrapped = AsyncFileSystemWrapper(folder.fs, asynchronous=False)

    async def reject(_):
        raise PermissionError("no")

    wrapped._rm_file = reject
    monkeypatch.setattr(objects, "get_filesystem", lambda *_: wrapped)
    with pytest.raises(DestinationError, match="no permission to remove"):
        remove_objects([folder / "a"])


@pytest.mark.usefixtures("_memory")
def test_remove_objects_names_those_that_cannot_be_removed(tmp_path, monkeypatch):
    folder = ObjectStoragePath(f"memory://bucket{tmp_path}/folder")
    wrapped = AsyncFileSystemWrapper(folder.fs, asynchronous=False)
    remove = wrapped._rm_file

    async def hold_one(path):
        if path.endswith("/held"):
            raise OSError("retention")
        await remove(path)

    wrapped._rm_file = hold_one
    monkeypatch.setattr(objects, "get_filesystem", lambda *_: wrapped)
    monkeypatch.setattr(objects, "CONCURRENT_REMOVALS", 2)
    paths = [folder / name for name in ("held", "a", "b", "c", "d")]
    for path in paths:
        folder.fs.pipe_file(path.path, b"content")
    assert list(remove_objects(paths)) == ["held"]
    assert [name.rpartition("/")[2] for name in folder.fs.find(folder.path)] == ["held"]
