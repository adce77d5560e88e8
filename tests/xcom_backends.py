"""Custom XCom backends, as users write them."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

from airflow.sdk.bases.xcom import BaseXCom


class FileXComBackend(BaseXCom):
    """Store each value in a file in the folder ``XCOM_FOLDER``, and the file's name in the database."""

    PREFIX = "xcom-file:"

    @staticmethod
    def serialize_value(value: Any, **_: Any) -> Any:
        name = f"{uuid.uuid4()}.json"
        (Path(os.environ["XCOM_FOLDER"]) / name).write_text(json.dumps(value))
        return BaseXCom.serialize_value(FileXComBackend.PREFIX + name)

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        reference = BaseXCom.deserialize_value(result)
        if not isinstance(reference, str) or not reference.startswith(FileXComBackend.PREFIX):
            return reference
        return json.loads(
            (Path(os.environ["XCOM_FOLDER"]) / reference.removeprefix(FileXComBackend.PREFIX)).read_text()
        )


class LeakyXComBackend(BaseXCom):
    """Fail to read with an error that quotes a signed URL."""

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        raise RuntimeError(f"403 for https://bucket.example.com/{result.value}?X-Amz-Signature=5ecret")
