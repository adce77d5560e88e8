from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.fs import register_cos_with_upath


def test_register_cos_does_nothing_on_newer_upath(monkeypatch):
    monkeypatch.setattr("upath.__version__", "0.3.10")
    register_cos_with_upath()
    path = ObjectStoragePath("cos://mps_default@clips-1250000000/a/b.wav")
    assert path.path == "clips-1250000000/a/b.wav"
