"""fsspec's own filesystem tests, run against cos:// on a real S3 server."""

import json
import uuid

import pytest
from fsspec.tests import abstract

from airflow_provider_mps.fs.cos_filesystem import CosFileSystem
from tests.s3_server import S3Server

pytestmark = pytest.mark.xdist_group("cos_fsspec")
BUCKET = "clips-1250000000"
EXCLUSIVE = "in mode xb, s3fs sends If-None-Match, which rclone ignores; plain s3fs fails, too"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        running.make_bucket(BUCKET)
        yield running


@pytest.fixture(scope="module")
def filesystem(server):
    extra = {"cos_endpoint": server.url, "region": "ap-singapore"}
    connection = {"conn_type": "tencent_mps", "login": server.key, "password": server.secret, "extra": extra}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_MPS_FSSPEC", json.dumps(connection))
        yield CosFileSystem("mps_fsspec", skip_instance_cache=True)


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, filesystem):
        filesystem.invalidate_cache()
        return filesystem

    @pytest.fixture
    def fs_path(self):
        return f"{BUCKET}/{uuid.uuid4().hex}"  # new, because rclone may still cache a removed folder

    @pytest.fixture
    def fs_join(self):
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def supports_empty_directories(self):
        return False


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    @pytest.mark.xfail(strict=True, reason=EXCLUSIVE)
    def test_pipe_exclusive(self, fs, fs_target):
        super().test_pipe_exclusive(fs, fs_target)


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    @pytest.mark.xfail(strict=True, reason=EXCLUSIVE)
    def test_open_exclusive(self, fs, fs_target):
        super().test_open_exclusive(fs, fs_target)
