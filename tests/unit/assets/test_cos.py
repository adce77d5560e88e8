import pytest
from airflow.providers.common.compat.sdk import Asset, ObjectStoragePath

from airflow_provider_mps.assets.cos import convert_asset_to_openlineage, create_asset


@pytest.mark.parametrize("uri", ["cos://clips-1250000000/a/b.wav", "cos://clips-1250000000"])
def test_asset_accepts_cos_uri(uri):
    assert Asset(uri).uri.rstrip("/") == uri


def test_asset_drops_connection_id():
    path = ObjectStoragePath("cos://mps_default@clips-1250000000/a.wav")
    assert Asset("a clip", str(path)).uri == "cos://clips-1250000000/a.wav"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("cos:///a.wav", "must name a bucket"),
        ("cos://", "must name a bucket"),
        ("cos://mps_default@/a.wav", "must name a bucket"),
        ("cos://clips/a.wav", "APPID"),
    ],
)
def test_asset_rejects_uri_without_full_bucket(uri, message):
    with pytest.raises(ValueError, match=message):
        Asset(uri)


def test_create_asset_joins_bucket_and_key():
    assert create_asset(bucket="clips-1250000000", key="/a.wav").uri == "cos://clips-1250000000/a.wav"


def test_asset_uri_is_percent_encoded_once():
    encoded = "cos://clips-1250000000/%E8%AF%AD/a%20b.wav"
    assert Asset("cos://clips-1250000000/语/a b.wav").uri == encoded
    assert Asset(encoded).uri == encoded
    assert create_asset(bucket="clips-1250000000", key="语/a b.wav").uri == encoded
    assert create_asset(bucket="clips-1250000000", key="100%#?.wav").uri == "cos://clips-1250000000/100%25%23%3F.wav"
    assert convert_asset_to_openlineage(Asset(encoded), None).name == "语/a b.wav"


def test_openlineage_dataset_has_bucket_and_key():
    dataset = convert_asset_to_openlineage(Asset("cos://clips-1250000000/a/b.wav"), None)
    assert (dataset.namespace, dataset.name) == ("cos://clips-1250000000", "a/b.wav")
