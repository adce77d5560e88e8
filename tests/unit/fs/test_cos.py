import subprocess
import sys

import pytest

from airflow_provider_mps.connection import MpsConnection
from airflow_provider_mps.errors import InvalidMpsConnectionError, InvalidRequestError
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
    assert "proxies" not in place(region="ap-singapore").botocore_config


@pytest.mark.parametrize("bucket", ["clips-1250000000", "my-clips-1250000000", "1a-12500000", ""])
def test_a_bucket_with_its_appid_is_taken(bucket):
    require_bucket(bucket)


@pytest.mark.parametrize("bucket", ["clips", "clips-", "clips-12", "clips-abc", "Clips-1250000000", "-1250000000"])
def test_any_other_is_an_error_that_shows_how_it_should_look(bucket):
    with pytest.raises(InvalidRequestError, match=r"APPID.*cos://clips-1250000000"):
        require_bucket(bucket)


WITHOUT_S3FS = """
import sys
sys.modules["s3fs"] = None
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow_provider_mps.destination import filesystem_of
path = ObjectStoragePath("cos://mps_default@clips-1250000000/a.wav")
try:
    filesystem_of(path)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_without_its_package_the_error_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT_S3FS], capture_output=True, text=True, check=True)
    assert "DestinationError" in done.stdout
    assert "pip install 'airflow-provider-mps[cos]'" in done.stdout
