import subprocess
import sys

import fsspec
import pytest
from fsspec.registry import known_implementations

from airflow_provider_mps.connection import MpsConnection
from airflow_provider_mps.errors import InvalidMpsConnectionError, InvalidRequestError
from airflow_provider_mps.fs import cos
from airflow_provider_mps.fs.cos_place import CosPlace, require_bucket


def place(**fields):
    return CosPlace.of(MpsConnection("my_conn", "mps.intl.tencentcloudapi.com", **fields))


def test_buckets_are_in_the_connections_region():
    assert place(region="ap-singapore") == CosPlace("https://cos.ap-singapore.myqcloud.com", "ap-singapore")


@pytest.mark.parametrize(
    ("endpoint", "region", "signed_for"),
    [
        ("https://cos.ap-tokyo.myqcloud.com", "", "ap-tokyo"),
        ("https://cos.ap-tokyo.myqcloud.com", "ap-singapore", "ap-tokyo"),
        ("https://cos.dualstack.ap-tokyo.myqcloud.com", "", "ap-tokyo"),
        ("https://cos-internal.ap-tokyo.tencentcos.cn", "", "ap-tokyo"),
        ("https://cos.accelerate.myqcloud.com", "ap-singapore", "ap-singapore"),
        ("http://127.0.0.1:9000", "ap-singapore", "ap-singapore"),
        ("http://127.0.0.1:9000", "", "us-east-1"),
    ],
)
def test_an_endpoint_goes_before_and_tells_its_region_where_it_can(endpoint, region, signed_for):
    assert place(cos_endpoint=endpoint, region=region) == CosPlace(endpoint, signed_for)


def test_without_either_it_says_what_to_set():
    with pytest.raises(InvalidMpsConnectionError, match=r"'my_conn' has no Region.*COS endpoint"):
        place()


def test_botocore_is_told_what_cos_needs():
    config = place(region="ap-singapore", proxy="http://proxy:3128").botocore_config
    assert config["s3"] == {"addressing_style": "virtual"}
    assert config["request_checksum_calculation"] == config["response_checksum_validation"] == "when_required"
    assert config["proxies"] == {"http": "http://proxy:3128", "https": "http://proxy:3128"}
    assert place(region="ap-singapore").botocore_config["proxies"] == {}  # botocore looks for none by itself


def test_an_endpoint_that_names_a_bucket_is_an_error_with_the_one_that_was_meant():
    with pytest.raises(InvalidMpsConnectionError, match=r"Set it to https://cos\.ap-tokyo\.myqcloud\.com\."):
        place(cos_endpoint="https://clips-1250000000.cos.ap-tokyo.myqcloud.com")


def test_an_answer_may_take_longer_than_a_connection():
    config = place(region="ap-singapore", timeout=3.0).botocore_config
    assert (config["connect_timeout"], config["read_timeout"]) == (3, 60)


def test_a_proxys_password_is_not_in_the_repr():
    assert "PROXYPASSWORD" not in repr(place(region="ap-singapore", proxy="http://user:PROXYPASSWORD@host:1"))


@pytest.mark.parametrize("bucket", ["clips-1250000000", "my-clips-1250000000", "1a-12500000", ""])
def test_a_bucket_with_its_appid_is_taken(bucket):
    require_bucket(bucket)


@pytest.mark.parametrize("bucket", ["clips", "clips-", "clips-12", "clips-abc", "Clips-1250000000", "-1250000000"])
def test_any_other_is_an_error_that_shows_how_it_should_look(bucket):
    with pytest.raises(InvalidRequestError, match=r"APPID.*cos://clips-1250000000"):
        require_bucket(bucket)


@pytest.fixture
def register(monkeypatch):
    """Register a class of a name for cos://, as fsspec does for an entry point."""
    monkeypatch.setitem(known_implementations, "cos", {})
    monkeypatch.setattr(cos, "registry", {})
    cos._warn_of_another_package.cache_clear()
    yield lambda name: fsspec.register_implementation("cos", name, clobber=True)
    cos._warn_of_another_package.cache_clear()


def test_another_package_that_fsspec_prefers_is_warned_of_once(register, caplog):
    register("cosfs.CosFileSystem")
    for _ in range(2):
        cos.get_fs("my_conn")
    (record,) = caplog.records
    assert "cosfs.CosFileSystem" in record.getMessage()
    assert 'register_implementation("cos", "airflow_provider_mps.fs.cos.CosFileSystem", clobber=True)' in caplog.text


def test_there_is_no_warning_where_fsspec_uses_this_package(register, caplog):
    register("airflow_provider_mps.fs.cos.CosFileSystem")
    cos.get_fs("my_conn")
    assert caplog.records == []


def test_there_is_no_warning_after_fsspec_has_made_this_filesystem(caplog):
    cos._warn_of_another_package.cache_clear()
    fsspec.get_filesystem_class("cos")
    cos.get_fs("my_conn")
    assert caplog.records == []


WITHOUT_S3FS = """
import sys
sys.modules["s3fs"] = None
import fsspec
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow_provider_mps.destination import filesystem_of
path = ObjectStoragePath("cos://mps_default@clips-1250000000/a.wav")
for use in {uses}:
    try:
        eval(use)
    except Exception as error:
        print(use, type(error).__name__, error, sep="\t")
"""


def test_without_its_package_the_error_says_what_to_install_wherever_it_bites():
    kinds = {
        "filesystem_of(path)": "DestinationError",
        "path.open('wb')": "ImportError",
        "path.read_bytes()": "ImportError",
        "fsspec.filesystem('cos')": "ImportError",
        "fsspec.open('cos://mps_default@clips-1250000000/a.wav').open()": "ImportError",
    }
    code = WITHOUT_S3FS.format(uses=list(kinds))  # one Python for all: none gets as far as an import
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    errors = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    assert {use: kind for use, kind, _ in errors} == kinds
    assert all("pip install 'airflow-provider-mps[cos]'" in error for _, _, error in errors)
