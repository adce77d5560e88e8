"""
The connection form of Airflow's UI, told once.

Airflow 3.2 and later read it from :mod:`~airflow_provider_mps.provider_info`; 2.11 to 3.1 ask the hook. Every
``airflow`` command reads this while it starts, so it imports nothing of Airflow or of the SDK.
"""

from __future__ import annotations

from typing import Any

DEFAULT_CONN_ID = "mps_default"
DEFAULT_HOST = "mps.intl.tencentcloudapi.com"
MAINLAND_HOST = "mps.tencentcloudapi.com"
DEFAULT_REQUESTS_PER_SECOND = 18.0  # of the documented 20: room for other programs on the same account
DEFAULT_ROLE_SESSION_NAME = "airflow"
DEFAULT_TIMEOUT = 10.0

TEXT = ["string", "null"]
NUMBER = ["number", "null"]

FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": [],
    "relabeling": {
        "login": "SecretId",
        "password": "SecretKey",
        "host": "API domain",
        "schema": "Scheme",
    },
    "placeholders": {
        "login": "empty: the SDK's default credential chain",
        "password": "the key that belongs to SecretId",
        "host": f"{DEFAULT_HOST}, China: {MAINLAND_HOST}",
        "schema": "https; an emulator wants http",
        "port": "443",
    },
}
"""Airflow's own fields."""

EXTRA_FIELDS: dict[str, dict[str, Any]] = {
    "region": {
        "label": "Region",
        "description": "Access region, e.g. ap-singapore. Neither text-to-speech call needs one; cos:// does.",
        "schema": {
            "type": TEXT,
            # Offered, and others taken: Tencent opens regions.
            "examples": [
                "ap-singapore",
                "ap-jakarta",
                "ap-bangkok",
                "ap-tokyo",
                "ap-seoul",
                "ap-mumbai",
                "ap-hongkong",
                "ap-guangzhou",
                "ap-shanghai",
                "ap-beijing",
                "eu-frankfurt",
                "na-ashburn",
                "na-siliconvalley",
                "sa-saopaulo",
            ],
        },
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
        "description": f"Name under which the assumed role appears in Tencent's audit log: "
        f"{DEFAULT_ROLE_SESSION_NAME} unless given.",
        "schema": {"type": TEXT},
    },
    "requests_per_second": {
        "label": "Requests per second",
        "description": f"What one triggerer asks at most: {DEFAULT_REQUESTS_PER_SECOND:g} unless given. The "
        "documented quota is 20; leave room for others.",
        "schema": {"type": NUMBER, "minimum": 0.1},
    },
    "timeout": {
        "label": "Timeout",
        "description": f"Seconds that one request may take: {DEFAULT_TIMEOUT:g} unless given.",
        "schema": {"type": NUMBER, "minimum": 0.1},
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
}
"""What is kept in the connection's Extra."""


def field_behaviour() -> dict[str, Any]:
    """Return labels and placeholders of Airflow's own fields, as Airflow 2.11 to 3.1 ask a hook for them."""
    return {name.replace("-", "_"): value for name, value in FIELD_BEHAVIOUR.items()}


def form_widgets() -> dict[str, Any]:
    """Return a field for each part of Extra, as Airflow 2.11 to 3.1 ask a hook for them."""
    # Nowhere but in those versions' web server, which brings them or stands in for them.
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from wtforms import PasswordField, StringField
    from wtforms.validators import Optional

    def widget(field: dict[str, Any]) -> Any:
        secret = field["schema"].get("format") == "password"
        # Numbers are typed as text: those forms know none but whole ones.
        kind, look = (PasswordField, BS3PasswordFieldWidget) if secret else (StringField, BS3TextFieldWidget)
        return kind(field["label"], validators=[Optional()], description=field["description"], widget=look())

    return {name: widget(field) for name, field in EXTRA_FIELDS.items()}
