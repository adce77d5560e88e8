import subprocess
import sys

import fsspec
import pytest
from fsspec.registry import known_implementations

from airflow_provider_mps.api.connection import MpsConnection
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, InvalidRequestError
from airflow_provider_mps.fs import cos
from airflow_provider_mps.fs.cos_endpoint import CosEndpoint, validate_bucket


def make_endpoint(**fields):
    return CosEndpoint.from_connection(MpsConnection("my_conn", "mps.intl.tencentcloudapi.com", **fields))


def test_endpoint_is_in_region_of_connection():
    assert make_endpoint(region="ap-singapore") == CosEndpoint("https://cos.ap-singapore.myqcloud.com", "ap-singapore")


@pytest.mark.parametrize(
    ("endpoint", "region", "signing_region"),
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
def test_cos_endpoint_overrides_region_if_it_names_one(endpoint, region, signing_region):
    assert make_endpoint(cos_endpoint=endpoint, region=region) == CosEndpoint(endpoint, signing_region)


def test_endpoint_without_region_raises_and_names_fields():
    with pytest.raises(InvalidMpsConnectionError, match=r"'my_conn' has no Region.*COS endpoint"):
        make_endpoint()


def test_botocore_config_suits_cos():
    config = make_endpoint(region="ap-singapore", proxy="http://proxy:3128").botocore_config
    assert config["s3"] == {"addressing_style": "virtual"}
    assert config["request_checksum_calculation"] == config["response_checksum_validation"] == "when_required"
    assert config["proxies"] == {"http": "http://proxy:3128", "https": "http://proxy:3128"}
    assert (
        make_endpoint(region="ap-singapore").botocore_config["proxies"] == {}
    )  # botocore then does not use the environment


def test_cos_endpoint_with_bucket_raises_and_suggests_fix():
    with pytest.raises(InvalidMpsConnectionError, match=r"Set it to https://cos\.ap-tokyo\.myqcloud\.com\."):
        make_endpoint(cos_endpoint="https://clips-1250000000.cos.ap-tokyo.myqcloud.com")


def test_read_timeout_is_longer_than_connect_timeout():
    config = make_endpoint(region="ap-singapore", timeout=3.0).botocore_config
    assert (config["connect_timeout"], config["read_timeout"]) == (3, 60)


def test_endpoint_repr_hides_proxy_password():
    assert "PROXYPASSWORD" not in repr(make_endpoint(region="ap-singapore", proxy="http://user:PROXYPASSWORD@host:1"))


@pytest.mark.parametrize("bucket", ["clips-1250000000", "my-clips-1250000000", "1a-12500000", ""])
def test_validate_bucket_accepts_name_with_appid(bucket):
    validate_bucket(bucket)


@pytest.mark.parametrize("bucket", ["clips", "clips-", "clips-12", "clips-abc", "Clips-1250000000", "-1250000000"])
def test_validate_bucket_rejects_name_without_appid(bucket):
    with pytest.raises(InvalidRequestError, match=r"APPID.*cos://clips-1250000000"):
        validate_bucket(bucket)


@pytest.fixture
def register(monkeypatch):
    """Return a function that registers a class for cos://, as fsspec does for an entry point."""
    monkeypatch.setitem(known_implementations, "cos", {})
    monkeypatch.setattr(cos, "registry", {})
    cos._warn_of_another_package.cache_clear()
    yield lambda name: fsspec.register_implementation("cos", name, clobber=True)
    cos._warn_of_another_package.cache_clear()


def test_get_fs_warns_once_about_other_package(register, caplog):
    register("cosfs.CosFileSystem")
    for _ in range(2):
        cos.get_fs("my_conn")
    (record,) = caplog.records
    assert "cosfs.CosFileSystem" in record.getMessage()
    assert 'register_implementation("cos", "airflow_provider_mps.fs.cos.CosFileSystem", clobber=True)' in caplog.text


def test_get_fs_does_not_warn_about_this_package(register, caplog):
    register("airflow_provider_mps.fs.cos.CosFileSystem")
    cos.get_fs("my_conn")
    assert caplog.records == []


def test_get_fs_does_not_warn_after_fsspec_loaded_class(caplog):
    cos._warn_of_another_package.cache_clear()
    fsspec.get_filesystem_class("cos")
    cos.get_fs("my_conn")
    assert caplog.records == []


WITHOUT_S3FS = """
import sys
sys.modules["s3fs"] = None
import fsspec
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow_provider_mps.storage.destination import get_filesystem
path = ObjectStoragePath("cos://mps_default@clips-1250000000/a.wav")
for use in {uses}:
    try:
        eval(use)
    except Exception as error:
        print(use, type(error).__name__, error, sep="\t")
"""


def test_cos_without_s3fs_names_package_to_install():
    expected_types = {
        "get_filesystem(path)": "DestinationError",
        "path.open('wb')": "ImportError",
        "path.read_bytes()": "ImportError",
        "fsspec.filesystem('cos')": "ImportError",
        "fsspec.open('cos://mps_default@clips-1250000000/a.wav').open()": "ImportError",
    }
    code = WITHOUT_S3FS.format(uses=list(expected_types))  # one process for all: no import succeeds
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    errors = [line.split("\t") for line in process.stdout.splitlines() if "\t" in line]
    assert {use: type_name for use, type_name, _ in errors} == expected_types
    assert all("pip install 'airflow-provider-mps[cos]'" in error for _, _, error in errors)
