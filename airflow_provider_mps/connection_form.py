"""
The fields of the connection form in Airflow's UI.

Airflow 3.2 and later read them from :mod:`~airflow_provider_mps.get_provider_info`; 2.11 to 3.1 call the hook. Every
``airflow`` command imports this module when it starts, so it imports neither Airflow nor the SDK.
"""

from __future__ import annotations

from typing import Any

CONN_TYPE = "tencent_mps"
HOOK_NAME = "Tencent Cloud MPS"
DEFAULT_CONN_ID = "mps_default"
DEFAULT_HOST = "mps.intl.tencentcloudapi.com"
MAINLAND_HOST = "mps.tencentcloudapi.com"
DEFAULT_REQUESTS_PER_SECOND = 18.0  # of the documented 20: leaves room for other programs on the same account
DEFAULT_ROLE_SESSION_NAME = "airflow"
DEFAULT_TIMEOUT_SECONDS = 10.0
# Suggestions, not an enum: Tencent opens new regions.
# fmt: off
REGIONS = [
    "ap-singapore", "ap-jakarta", "ap-bangkok", "ap-tokyo", "ap-seoul", "ap-mumbai", "ap-hongkong", "ap-guangzhou",
    "ap-shanghai", "ap-beijing", "eu-frankfurt", "na-ashburn", "na-siliconvalley", "sa-saopaulo",
]
# fmt: on

FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": [],
    "relabeling": {"login": "SecretId", "password": "SecretKey", "host": "API domain", "schema": "Scheme"},
    "placeholders": {
        "login": "empty: the default chain (environment, profile file, CVM role)",
        "password": "the SecretKey of this SecretId",
        "host": f"{DEFAULT_HOST} (China: {MAINLAND_HOST})",
        "schema": "https (use http for the emulator)",
        "port": "443",
    },
}
"""Labels and placeholders of Airflow's own fields."""


def _make_field(label: str, description: str, kind: str = "string", **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}


EXTRA_FIELDS: dict[str, dict[str, Any]] = {
    "region": _make_field(
        "Region",
        "Tencent Cloud region, e.g. ap-singapore. Only cos:// paths require it. Default: none.",
        examples=REGIONS,
    ),
    "token": _make_field(
        "Session token", "Only for temporary keys: the token that was issued with them.", format="password"
    ),
    "role_arn": _make_field(
        "Role ARN", "Role to assume with these keys, e.g. qcs::cam::uin/100000000001:roleName/airflow. Default: none."
    ),
    "role_session_name": _make_field(
        "Role session name", f"Name of the role's session in Tencent's audit log. Default: {DEFAULT_ROLE_SESSION_NAME}."
    ),
    "requests_per_second": _make_field(
        "Requests per second",
        "Rate limit of each process that polls or submits (triggerer, batch). "
        f"Default: {DEFAULT_REQUESTS_PER_SECOND:g}. Documented quota: 20.",
        "number",
        minimum=0.1,
    ),
    "timeout": _make_field(
        "Timeout",
        f"Timeout of one API request, in seconds. Default: {DEFAULT_TIMEOUT_SECONDS:g}.",
        "number",
        minimum=0.1,
    ),
    "proxy": _make_field(
        "Proxy",
        "HTTP proxy for API requests: http://user:password@host:port. Default: the environment's.",
        format="password",
    ),
    "cos_endpoint": _make_field("COS endpoint", "Server for cos:// paths. Default: https://cos.REGION.myqcloud.com."),
}
"""Fields that are stored in the connection's Extra."""


def get_form_widgets() -> dict[str, Any]:
    """Return a form field for each key of Extra, in the form of Airflow 2.11 to 3.1."""
    # Installed in the web server of Airflow 2.11, and replaced by stand-ins in the API server of 3.0 and 3.1.
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from wtforms import PasswordField, StringField
    from wtforms.validators import Optional

    def make_widget(field: dict[str, Any]) -> Any:
        is_secret = field["schema"].get("format") == "password"
        # Numbers are text fields: the number field of these forms takes whole numbers only.
        kind, widget = (PasswordField, BS3PasswordFieldWidget) if is_secret else (StringField, BS3TextFieldWidget)
        return kind(field["label"], validators=[Optional()], description=field["description"], widget=widget())

    return {name: make_widget(field) for name, field in EXTRA_FIELDS.items()}
