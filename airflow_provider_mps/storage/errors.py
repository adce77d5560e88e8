"""Translate what storage libraries raise into errors that say what failed and how to fix it."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.exceptions import AudioTransferError, DestinationError
from airflow_provider_mps.redaction import describe_error, format_path, get_safe_cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
_PERMANENT_ERRNOS = {errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}
_TRANSIENT_S3_CODES = {
    "400",  # a HEAD response to an expired token or a wrong clock has only this status
    "BadDigest",
    "ExpiredToken",
    "IncompleteBody",
    "InvalidPart",
    "NoSuchUpload",
    "PreconditionFailed",
    "RequestTimeTooSkewed",
    "TokenRefreshRequired",
}
"""S3 codes worth a retry, although s3fs raises them as permission, missing-file or argument errors."""
_PERMISSION_STATUSES = {401, 403}
_UNSUPPORTED_STATUSES = {400, 405, 411, 501}
_PAST_TENSES = {"list": "listed", "look at": "looked at", "remove": "removed", "write": "written"}


class UnknownOutcomeError(OSError):
    """A commit failed, and it is unknown whether the storage has performed it."""


class NotReplacedError(FileExistsError):
    """A filesystem does not rename a file to an existing name."""


@contextmanager
def commit_guard() -> Iterator[None]:
    """Raise :class:`UnknownOutcomeError` if a commit fails, but may have taken effect."""
    try:
        yield
    except (AirflowException, FileNotFoundError, NotReplacedError, UnknownOutcomeError):
        raise
    except Exception as error:
        if is_permission_error(error):
            raise
        raise UnknownOutcomeError(describe_error(error)) from error


def is_permission_error(error: Exception) -> bool:
    """Return whether the storage has denied permission; each library reports that differently."""
    return (
        isinstance(error, PermissionError)  # the operating system, and s3fs
        or getattr(error, "status_code", None) in _PERMISSION_STATUSES  # Azure
        or (type(error) is OSError and str(error).startswith("Forbidden: "))  # gcsfs
    )


def is_storage_full(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, says that the storage has no space left."""
    while error is not None and getattr(error, "errno", None) not in _FULL_ERRNOS:
        error = error.__cause__
    return error is not None


def get_s3_error_code(error: BaseException) -> str | None:
    """Return the error code of an S3 response that s3fs has turned into an operating system error."""
    response = getattr(error.__cause__, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def is_rejected_by_s3(error: BaseException) -> bool:
    """Return whether a server of the S3 API does not support a request as it was sent."""
    response = getattr(error.__cause__, "response", None)
    if not isinstance(response, dict) or get_s3_error_code(error) in _TRANSIENT_S3_CODES:
        return False
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") in _UNSUPPORTED_STATUSES


_FAILED = "{path} could not be {done}: {code}{reason}."
_TRANSLATIONS: tuple[tuple[Callable[[Exception], bool], type[AirflowException], str], ...] = (
    (lambda error: get_s3_error_code(error) in _TRANSIENT_S3_CODES, AudioTransferError, f"{_FAILED} {{state}}"),
    (
        is_permission_error,
        DestinationError,
        "there is no permission to {action} {path} ({reason}). Grant it to the worker's account, or to the connection "
        "in the path.",
    ),
    (
        lambda error: isinstance(error, IsADirectoryError),
        DestinationError,
        "{path} is a folder. End the destination with '/' to store into it.",
    ),
    (
        lambda error: isinstance(error, NotReplacedError),
        DestinationError,
        "{path} cannot be written: it exists, and its filesystem does not replace files ({reason}). Remove it first.",
    ),
    (
        lambda error: isinstance(error, FileNotFoundError | FileExistsError | NotADirectoryError),
        DestinationError,
        "{path} cannot be written: its bucket or folder does not exist, or is a file ({reason}).",
    ),
    (
        lambda error: isinstance(error, ValueError) or getattr(error, "errno", None) in _PERMANENT_ERRNOS,
        DestinationError,
        f"{_FAILED} Check the path and its connection.",
    ),
    (lambda _: True, AudioTransferError, f"{_FAILED} {{state}}"),
)
"""Condition, error class and message; the first match is raised. An ``AudioTransferError`` can be retried."""


@contextmanager
def translate_storage_errors(path: ObjectStoragePath, subject: str = "", action: str = "write") -> Iterator[None]:
    """
    Raise errors of a filesystem as an :class:`AudioTransferError` or :class:`DestinationError` about ``path``.

    :param subject: whose audio was to be stored at the path, e.g. "task 24a1"
    :param action: the operation, a verb, for the message
    """
    try:
        yield
    except AirflowException:
        raise
    except Exception as error:  # noqa: BLE001 - raised as what it means
        code = get_s3_error_code(error)
        error_class, message = next(row[1:] for row in _TRANSLATIONS if row[0](error))
        message = message.format(
            path=format_path(path),
            action=action,
            done=_PAST_TENSES.get(action, action),
            code=f"{code}: " if code else "",
            reason=describe_error(error),
            state=f"It is {'either unchanged or complete' if isinstance(error, UnknownOutcomeError) else 'unchanged'}.",
        )
        translated = error_class(f"{format_not_stored(subject)}{message}")
        if is_storage_full(error):
            translated.errno = errno.ENOSPC  # type: ignore[attr-defined]  # also if its cause cannot be kept
        raise translated from get_safe_cause(error)


def format_not_stored(subject: str) -> str:
    """Return the beginning of a message that says whose audio was not stored."""
    return f"The audio of {subject} was not stored: " if subject else ""
