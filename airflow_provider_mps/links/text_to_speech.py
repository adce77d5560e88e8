"""Extra links of task instances: the audio at MPS, the stored object, and the API's documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_mps.player.plugin import is_available as listen_is_available

if TYPE_CHECKING:
    from typing import Any

    from airflow.providers.common.compat.sdk import BaseOperator, ObjectStoragePath

    from airflow_provider_mps.speech.task import MpsTask


class SubmitPageLink(BaseOperatorLink):
    """Links to the documentation of ``TextToSpeechAsync``."""

    name = "API: TextToSpeechAsync"
    page: ClassVar[str] = "https://www.tencentcloud.com/document/product/1041/79693"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the URL of the page."""
        return self.page


class QueryPageLink(SubmitPageLink):
    """Links to the documentation of ``DescribeTextToSpeechAsyncTask``."""

    name = "API: DescribeTextToSpeechAsyncTask"
    page: ClassVar[str] = "https://www.tencentcloud.com/document/product/1041/79696"


class SynthesisPageLink(SubmitPageLink):
    """Links to the documentation of ``TextToSpeech``."""

    name = "API: TextToSpeech"
    page: ClassVar[str] = "https://cloud.tencent.com/document/product/862/135348"


class AudioSourceLink(BaseOperatorLink):
    """Links to the audio at MPS, until its URL expires."""

    name = "Audio at MPS (expires)"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the ``AudioUrl`` that the sensor has returned; Airflow shows no button for an empty link."""
        if hasattr(operator, "audio_url"):  # in the sensor's own process, without an API call to Airflow
            return operator.audio_url or ""
        # The web server of Airflow 2 has only the serialized fields of the operator.
        result = XCom.get_value(ti_key=ti_key, key="return_value")
        return (result.get("AudioUrl") if isinstance(result, dict) else None) or ""


class StoredObjectLink(BaseOperatorLink):
    """Links to the stored object: in its cloud's console, or in the Listen view."""

    name = "Stored object"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the URL in the process that has stored the object; Airflow keeps it in an XCom."""
        path = getattr(operator, "stored_at", None)
        if path is None:
            return ""
        return get_console_url(path) or (get_listen_url(ti_key.log_url) if listen_is_available() else "")


def get_links_by_xcom_key(task: MpsTask) -> dict[str, str]:
    """Return the links of a sensor that ends in the triggerer, by XCom key; Airflow does not create them there."""
    return {
        f"_link_{AudioSourceLink.__name__}": task.audio_url or "",
        f"_link_{QueryPageLink.__name__}": QueryPageLink.page,
    }


def get_console_url(path: ObjectStoragePath) -> str | None:
    """Return the URL of an object in its cloud's console; ``None`` for other storage."""
    bucket, _, key = path.path.lstrip("/").partition("/")
    if path.protocol == "gs":
        return f"https://console.cloud.google.com/storage/browser/_details/{bucket}/{quote(key)}"
    if path.protocol in {"s3", "s3a"} and not _has_custom_endpoint(path.fs):
        return f"https://console.aws.amazon.com/s3/object/{bucket}?prefix={quote(key, safe='')}"
    return None


def get_listen_url(log_url: str) -> str:
    """Return the URL of the Listen view, which is a tab next to a task instance's log."""
    return f"{log_url.partition('?')[0]}/plugin/listen"


def _has_custom_endpoint(fs: Any) -> bool:
    return bool(getattr(fs, "endpoint_url", None) or (getattr(fs, "client_kwargs", None) or {}).get("endpoint_url"))
