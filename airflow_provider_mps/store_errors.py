"""What a store refuses, or leaves unanswered: told apart, and explained."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.errors import AudioTransferError, DestinationError
from airflow_provider_mps.redaction import cause_of, describe_error, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

_LASTING = {errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}
"""What an operating system says of a path that no retry can write."""
_FULL = {errno.ENOSPC, errno.EDQUOT}
_PASSING = {
    "400",  # all that the answer to a HEAD tells of an expired token or a clock that is wrong
    "BadDigest",
    "ExpiredToken",
    "IncompleteBody",
    "InvalidPart",
    "NoSuchUpload",
    "PreconditionFailed",
    "RequestTimeTooSkewed",
    "TokenRefreshRequired",
}
"""What S3 says of one try only, although s3fs words it as a lack of permission, a missing file or a bad argument."""
_REFUSED = {401, 403}
"""HTTP's way to say that a permission is missing."""
_DONE = {"list": "listed", "look at": "looked at", "remove": "removed", "write": "written"}
_UNCHANGED = "What was there is unchanged."
_MAYBE = "Either what was there is unchanged, or the audio is there, whole."


class UnknownOutcomeError(OSError):
    """A store did not answer to a commit, and does not tell whether it was done."""


class NotReplacedError(FileExistsError):
    """A filesystem does not rename a file to a name that is taken."""


@contextmanager
def committing() -> Iterator[None]:
    """Let nobody take for undone what a store may have done, unless it was refused."""
    try:
        yield
    except (AirflowException, FileNotFoundError, NotReplacedError, UnknownOutcomeError):
        raise
    except Exception as error:
        if lacks_permission(error):
            raise
        raise UnknownOutcomeError(describe_error(error)) from error


def lacks_permission(error: Exception) -> bool:
    """Tell whether a store has refused for want of permission, which each library words in its own way."""
    return (
        isinstance(error, PermissionError)  # the operating system, and s3fs
        or getattr(error, "status_code", None) in _REFUSED  # Azure's
        or (type(error) is OSError and str(error).startswith("Forbidden: "))  # gcsfs
    )


def is_full(error: BaseException | None) -> bool:
    """Tell whether an error is that a store has no room left, however often it was wrapped."""
    while error is not None and getattr(error, "errno", None) not in _FULL:
        error = error.__cause__
    return error is not None


@contextmanager
def explaining(path: ObjectStoragePath, subject: str = "", doing: str = "write") -> Iterator[None]:
    """
    Turn whatever a filesystem raises about ``path`` into a sentence that says what to mend.

    :param subject: whose audio was to be stored there
    :param doing: what permission is needed for
    """
    try:
        yield
    except AirflowException:
        raise
    except Exception as error:  # noqa: BLE001 - raised as what it means
        kind, problem = _explained(error, path, doing)
        explained = kind(f"{not_stored(subject)}{problem}")
        if is_full(error):
            explained.errno = errno.ENOSPC  # type: ignore[attr-defined]  # also if its cause cannot be kept
        raise explained from cause_of(error)


def _explained(error: Exception, path: ObjectStoragePath, doing: str) -> tuple[type[AirflowException], str]:
    """Return what to raise, and its message."""
    code = s3_code(error)
    state = _MAYBE if isinstance(error, UnknownOutcomeError) else _UNCHANGED
    name, words = shown_path(path), describe_error(error)
    problem = f"{name} could not be {_DONE.get(doing, doing)}: {f'{code}: ' if code else ''}{words}."
    if code in _PASSING:
        return AudioTransferError, f"{problem} {state}"
    if lacks_permission(error):
        return DestinationError, (
            f"there is no permission to {doing} {name} ({words}). Grant it to the account that the worker runs with, "
            "or to the connection in the path."
        )
    if isinstance(error, IsADirectoryError):
        return DestinationError, f"{name} is a folder. End the destination with '/' to store into it."
    if isinstance(error, FileNotFoundError | FileExistsError | NotADirectoryError):
        why = "its bucket or folder does not exist, or is a file"
        if isinstance(error, NotReplacedError):
            why = "it exists, and its filesystem does not replace files, so it must be removed first"
        return DestinationError, f"{name} cannot be written: {why} ({words})."
    if isinstance(error, ValueError) or getattr(error, "errno", None) in _LASTING:
        return DestinationError, f"{problem} Check how the destination is written, and its connection."
    return AudioTransferError, f"{problem} {state}"


def s3_code(error: BaseException) -> str | None:
    """Return the code that S3 answered with, where s3fs has worded it as an error of the operating system."""
    response = getattr(error.__cause__, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def not_stored(subject: str) -> str:
    """Return how a sentence begins that tells whose audio was not stored."""
    return f"The audio of {subject} was not stored: " if subject else ""
