"""
What Airflow registers when this package is installed.

Every ``airflow`` command reads this while it starts, so it imports nothing of Airflow or of the SDK.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_mps import __version__

DEFAULT_CONN_ID = "mps_default"
DEFAULT_HOST = "mps.intl.tencentcloudapi.com"
DEFAULT_REQUESTS_PER_SECOND = 18.0  # of the documented 20: room for other programs on the same account
DEFAULT_ROLE_SESSION_NAME = "airflow"
DEFAULT_TIMEOUT = 10.0

INTEGRATION = "Tencent Cloud Media Processing Service (MPS)"
TEXT = ["string", "null"]
NUMBER = ["number", "null"]

CONNECTION_FORM = {
    "ui-field-behaviour": {
        "hidden-fields": [],
        "relabeling": {
            "login": "SecretId",
            "password": "SecretKey",
            "host": "API domain",
            "schema": "Scheme",
        },
        "placeholders": {
            "login": "empty: the SDK's default credential chain",
            "host": DEFAULT_HOST,
            "schema": "https",
            "port": "443",
        },
    },
    "conn-fields": {
        "region": {
            "label": "Region",
            "description": "Access region, e.g. ap-singapore. Neither text-to-speech call needs one.",
            "schema": {"type": TEXT},
        },
        "token": {
            "label": "Session token",
            "description": "Only for temporary keys: the token that came with SecretId and SecretKey.",
            "schema": {"type": TEXT, "format": "password"},
        },
        "role_arn": {
            "label": "Role ARN",
            "description": "Role to assume with these keys, e.g. qcs::cam::uin/100000000001:roleName/airflow.",
            "schema": {"type": TEXT},
        },
        "role_session_name": {
            "label": "Role session name",
            "description": "Name under which the assumed role appears in Tencent's audit log.",
            "schema": {"type": TEXT, "default": DEFAULT_ROLE_SESSION_NAME},
        },
        "requests_per_second": {
            "label": "Requests per second",
            "description": "What one triggerer asks at most. The documented quota is 20; leave room for others.",
            "schema": {"type": NUMBER, "default": DEFAULT_REQUESTS_PER_SECOND, "minimum": 0.1},
        },
        "timeout": {
            "label": "Timeout",
            "description": "Seconds that one request may take.",
            "schema": {"type": NUMBER, "default": DEFAULT_TIMEOUT, "minimum": 0.1},
        },
        "proxy": {
            "label": "Proxy",
            "description": "HTTP proxy on the way to the API: http://user:password@host:port.",
            "schema": {"type": TEXT, "format": "password"},
        },
        "cos_endpoint": {
            "label": "COS endpoint",
            "description": "Where cos:// paths lead. Empty: https://cos.REGION.myqcloud.com.",
            "schema": {"type": TEXT},
        },
    },
}


def get_provider_info() -> dict[str, Any]:
    """Describe this provider to Airflow."""

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
        "operators": modules("airflow_provider_mps.operators.text_to_speech"),
        "sensors": modules("airflow_provider_mps.sensors.text_to_speech"),
        "triggers": modules("airflow_provider_mps.triggers.text_to_speech"),
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
                **CONNECTION_FORM,
            }
        ],
    }
