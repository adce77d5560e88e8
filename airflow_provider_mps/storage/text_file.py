"""Read a text (``text_path``) or another small file from object storage, so that it need not pass through XCom."""

from __future__ import annotations

import os

from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import describe_error, format_path, get_safe_cause
from airflow_provider_mps.storage.errors import is_permission_error

MAX_TEXT_BYTES = 10 * 1024 * 1024
"""The limit of Tencent Cloud's API for a request."""


def validate_text_source(text: object, text_path: object) -> None:
    """
    Check that exactly one of both arguments is given.

    :raises InvalidRequestError: if both or neither are given
    """
    given = [value not in (None, "") for value in (text, text_path)]
    if all(given):
        raise InvalidRequestError("text and text_path are both given, so nothing was submitted. Remove one of them.")
    if not any(given):
        raise InvalidRequestError("text is empty and text_path is not given: nothing was submitted.")


def read_text(text_path: str | ObjectStoragePath) -> str:
    """
    Return the content of a UTF-8 file, without a byte order mark.

    :raises InvalidRequestError: if the file is missing, not permitted or too large, or is not UTF-8
    :raises AirflowException: if it cannot be read this time
    """
    name = f"text_path {format_path(text_path)}"
    content = read_file(text_path, name, MAX_TEXT_BYTES)
    if len(content) > MAX_TEXT_BYTES:
        raise InvalidRequestError(
            f"{name} has more than {MAX_TEXT_BYTES} bytes, the limit of a request: nothing was submitted."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"{name} is not UTF-8 (byte {error.start + 1}): nothing was submitted. Save it as UTF-8."
        ) from error


def read_file(path: str | ObjectStoragePath, name: str, limit: int) -> bytes:
    """
    Return the content of a file, or a little more than ``limit`` bytes of a longer one.

    :param name: the argument and its value, for the error
    :raises InvalidRequestError: if the file is missing or not permitted
    :raises AirflowException: if it cannot be read this time
    """
    content = bytearray()
    try:
        with parse_path(path).open("rb") as file:
            while len(content) <= limit and (block := file.read(1024 * 1024)):
                content += block
    except Exception as error:  # noqa: BLE001 - translated
        problem = describe_error(error)
        is_permanent = isinstance(error, FileNotFoundError | IsADirectoryError | ValueError | ImportError)
        if is_permanent or is_permission_error(error):
            raise InvalidRequestError(
                f"{name} cannot be read ({problem}): nothing was submitted. Check the path, and that the connection in "
                "it or the worker's account has the permission to read it."
            ) from get_safe_cause(error)
        raise AirflowException(
            f"{name} could not be read this time ({problem}): nothing was submitted."
        ) from get_safe_cause(error)
    return bytes(content)


def parse_path(given: str | ObjectStoragePath) -> ObjectStoragePath:
    """
    Return a path that can be opened.

    :param given: a path; without a scheme, an absolute path of a file on this machine
    :raises ValueError: if it is relative or not a path
    """
    if isinstance(given, ObjectStoragePath) and given.protocol:
        return given  # its text form may lack the scheme
    if not isinstance(given, str | ObjectStoragePath | os.PathLike):
        raise ValueError(f"it is a {type(given).__name__}, not a path")  # noqa: TRY004 - like other invalid paths
    text = str(given).strip()
    if text.startswith("/"):
        return ObjectStoragePath(f"file://{text}")  # Airflow cannot open a path without a scheme
    if "://" not in text:
        raise ValueError("a path needs a scheme, e.g. s3://conn@bucket/chapter.txt or file:///data/chapter.txt")
    return ObjectStoragePath(given)
