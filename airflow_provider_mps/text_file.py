"""A text that lies in object storage, so that a chapter does not travel through XCom."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.redaction import cause_of, describe_error, shown_path
from airflow_provider_mps.store_errors import lacks_permission
from airflow_provider_mps.text_value import require_characters

if TYPE_CHECKING:
    from typing import IO

MAX_BYTES = 10 * 1024 * 1024
"""As many as a request of Tencent's API may have."""


def require_one_text(text: object, text_path: object) -> None:
    """
    Return where there is either a text, or a file of one.

    :raises InvalidRequestError: where there is none, or both
    """
    given = [value not in (None, "") for value in (text, text_path)]
    if all(given):
        raise InvalidRequestError("text and text_path are both given: leave one of them out. Nothing was submitted.")
    if not any(given):
        raise InvalidRequestError("text is empty, and no text_path is given either: nothing was submitted.")


def read_text(text_path: str | ObjectStoragePath) -> str:
    """
    Return what a file of UTF-8 says, without a byte order mark.

    :param text_path: an ``ObjectStoragePath`` or its text
    :raises InvalidRequestError: when it is not there, may not be read, or is no text that could be sent
    :raises AirflowException: when it cannot be read this time
    """
    name = f"text_path {shown_path(text_path)}"
    try:
        with as_path(text_path).open("rb") as file:
            content = _read(file)
    except (FileNotFoundError, IsADirectoryError, ValueError, ImportError) as error:
        raise InvalidRequestError(
            f"{name} cannot be read ({describe_error(error)}): nothing was submitted."
        ) from cause_of(error)
    except Exception as error:  # noqa: BLE001 - raised as what it means
        problem = describe_error(error)
        if lacks_permission(error):
            raise InvalidRequestError(
                f"{name} may not be read ({problem}): nothing was submitted. Grant it to the account that the worker "
                "runs with, or to the connection in the path."
            ) from cause_of(error)
        raise AirflowException(f"{name} could not be read this time ({problem}): nothing was submitted.") from cause_of(
            error
        )
    if len(content) > MAX_BYTES:
        raise InvalidRequestError(
            f"{name} has more than {MAX_BYTES} bytes, which no request can hold: nothing was submitted."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"{name} is not UTF-8 (byte {error.start + 1}): nothing was submitted. Save it as UTF-8."
        ) from error
    require_characters(name, text)
    return text


def as_path(given: str | ObjectStoragePath) -> ObjectStoragePath:
    """
    Return a path that can be opened.

    :param given: what a text without a scheme means is a file of this machine
    :raises ValueError: when it is relative to wherever the worker happens to run, or no path
    """
    if isinstance(given, ObjectStoragePath) and given.protocol:
        return given  # as text it could mean something else: that of some has no scheme
    if not isinstance(given, str | ObjectStoragePath | os.PathLike):
        raise ValueError(f"it is no path but a {type(given).__name__}")  # noqa: TRY004 - as of any other that is none
    text = str(given).strip()
    if text.startswith("/"):
        return ObjectStoragePath(f"file://{text}")  # without a scheme, Airflow can make it and not open it
    if "://" not in text:
        raise ValueError("it is no path with a scheme, e.g. s3://conn@bucket/chapter.txt or file:///data/chapter.txt")
    return ObjectStoragePath(given)


def _read(file: IO[bytes]) -> bytes:
    content = b""
    while len(content) <= MAX_BYTES and (block := file.read(1024 * 1024)):
        content += block
    return content
