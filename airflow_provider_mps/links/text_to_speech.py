"""The buttons on a task instance: the audio at its source, the stored object, and the API's own page."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_mps.player.plugin import is_available as listen_is_available

if TYPE_CHECKING:
    from typing import Any

    from airflow.providers.common.compat.sdk import BaseOperator, ObjectStoragePath

    from airflow_provider_mps.text_to_speech import TextToSpeechTask

NO_LINK = ""
"""Airflow shows no button for it."""


class SubmitPageLink(BaseOperatorLink):
    """What the API says of submitting."""

    name = "API: TextToSpeechAsync"
    page: ClassVar[str] = "https://www.tencentcloud.com/document/product/1041/79693"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the page's address."""
        return self.page


class QueryPageLink(BaseOperatorLink):
    """What the API says of asking for a task."""

    name = "API: DescribeTextToSpeechAsyncTask"
    page: ClassVar[str] = "https://www.tencentcloud.com/document/product/1041/79696"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the page's address."""
        return self.page


class AudioSourceLink(BaseOperatorLink):
    """The audio where MPS keeps it, for as long as the link lives that the sensor was given."""

    name = "Audio at MPS (expires)"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the ``AudioUrl`` that the sensor returned: in its own process, without a call to Airflow."""
        if hasattr(operator, "audio_url"):
            return operator.audio_url or NO_LINK
        # The web server of Airflow 2 has the operator's fields alone.
        told = XCom.get_value(ti_key=ti_key, key="return_value")
        return (told.get("AudioUrl") if isinstance(told, dict) else None) or NO_LINK


class StoredObjectLink(BaseOperatorLink):
    """The stored object: in its cloud's console where it has one, else in the Listen view."""

    name = "Stored object"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the address, as far as this process is the one that has stored: later Airflow asks its XCom."""
        path = getattr(operator, "stored_at", None)
        if path is None:
            return NO_LINK
        return console_page(path) or (listen_page(ti_key.log_url) if listen_is_available() else NO_LINK)


def triggered_links(task: TextToSpeechTask) -> dict[str, str]:
    """Return, by their XCom, the links of a sensor that ends in a triggerer, where Airflow asks for none."""
    return {
        f"_link_{AudioSourceLink.__name__}": task.audio_url or NO_LINK,
        f"_link_{QueryPageLink.__name__}": QueryPageLink.page,
    }


def console_page(path: ObjectStoragePath) -> str | None:
    """Return the page of an object in the console of its cloud; ``None`` where it is in none that is known."""
    bucket, _, key = path.path.lstrip("/").partition("/")
    if path.protocol == "gs":
        return f"https://console.cloud.google.com/storage/browser/_details/{bucket}/{quote(key)}"
    if path.protocol in {"s3", "s3a"} and not _has_own_endpoint(path.fs):
        return f"https://console.aws.amazon.com/s3/object/{bucket}?prefix={quote(key, safe='')}"
    return None


def listen_page(log_url: str) -> str:
    """Return the Listen view's page beside the page of a task instance's log."""
    return f"{log_url.partition('?')[0]}/plugin/listen"


def _has_own_endpoint(fs: Any) -> bool:
    """Tell whether an S3 filesystem speaks to another server than Amazon's."""
    return bool(getattr(fs, "endpoint_url", None) or (getattr(fs, "client_kwargs", None) or {}).get("endpoint_url"))
