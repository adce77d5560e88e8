"""
The metadata with which Airflow registers this provider.

Every ``airflow`` command imports this module, so it imports nothing of Airflow or of the SDK.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_mps import __version__
from airflow_provider_mps.connection_form import EXTRA_FIELDS, FIELD_BEHAVIOUR
from airflow_provider_mps.version_compat import drop_scheme_warning

INTEGRATION = "Tencent Cloud Media Processing Service (MPS)"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata for Airflow's provider manager."""
    drop_scheme_warning()

    def modules(*names: str) -> list[dict[str, Any]]:
        return [{"integration-name": INTEGRATION, "python-modules": list(names)}]

    return {
        "package-name": "airflow-provider-mps",
        "name": "Tencent Cloud MPS",
        "description": f"{INTEGRATION}: text to speech.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://www.tencentcloud.com/document/product/1041",
                "tags": ["service"],
            }
        ],
        "hooks": modules("airflow_provider_mps.hooks.mps"),
        "operators": modules(
            "airflow_provider_mps.operators.text_to_speech",
            "airflow_provider_mps.operators.synthesize",
            "airflow_provider_mps.operators.batch",
            "airflow_provider_mps.operators.track",
            "airflow_provider_mps.operators.voices",
        ),
        "sensors": modules("airflow_provider_mps.sensors.text_to_speech"),
        "triggers": modules(
            "airflow_provider_mps.triggers.text_to_speech",
            "airflow_provider_mps.triggers.batch",
            "airflow_provider_mps.triggers.voices",
        ),
        "task-decorators": [
            {
                "name": "text_to_speech",
                "class-name": "airflow_provider_mps.decorators.text_to_speech.text_to_speech_task",
            }
        ],
        "extra-links": [
            f"airflow_provider_mps.links.text_to_speech.{name}"
            for name in ("SubmitPageLink", "QueryPageLink", "SynthesisPageLink", "AudioSourceLink", "StoredObjectLink")
        ],
        "filesystems": ["airflow_provider_mps.fs.cos"],
        "asset-uris": [
            {
                "schemes": ["cos"],
                "handler": "airflow_provider_mps.assets.cos.sanitize_uri",
                "factory": "airflow_provider_mps.assets.cos.create_asset",
                "to_openlineage_converter": "airflow_provider_mps.assets.cos.convert_asset_to_openlineage",
            }
        ],
        "connection-types": [
            {
                "connection-type": "tencent_mps",
                "hook-class-name": "airflow_provider_mps.hooks.mps.MpsHook",
                "hook-name": "Tencent Cloud MPS",
                "ui-field-behaviour": FIELD_BEHAVIOUR,
                "conn-fields": EXTRA_FIELDS,
            }
        ],
    }
