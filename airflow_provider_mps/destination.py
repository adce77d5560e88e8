"""Where the audio goes: names decided, filesystems found, refusals explained."""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.errors import AudioTransferError, DestinationError, InvalidRequestError
from airflow_provider_mps.older_airflow import let_paths_know_cos

if TYPE_CHECKING:
    from collections.abc import Iterator

_LASTING = {errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}
"""What an operating system says of a path that no retry can write."""
_PASSING = {
    "400",  # all that the answer to a HEAD tells of an expired token or a clock that is wrong
    "BadDigest",
    "ExpiredToken",
    "IncompleteBody",
    "InvalidPart",
    "NoSuchUpload",
    "RequestTimeTooSkewed",
    "TokenRefreshRequired",
}
"""What S3 says of one try only, although s3fs words it as a lack of permission, a missing file or a bad argument."""
_REFUSED = {401, 403}
"""HTTP's way to say that a permission is missing."""
_UNCHANGED = "What was there is unchanged."
_MAYBE = "Either what was there is unchanged, or the audio is there, whole."
_PACKAGE_OF_SCHEME = {
    "cos": "airflow-provider-mps[cos]",
    "s3": "airflow-provider-mps[s3]",
    "gs": "apache-airflow-providers-google",
    "abfs": "apache-airflow-providers-microsoft-azure",
    "abfss": "apache-airflow-providers-microsoft-azure",
    "adl": "apache-airflow-providers-microsoft-azure",
    "wasb": "apache-airflow-providers-microsoft-azure",
}


let_paths_know_cos()


class UnknownOutcomeError(OSError):
    """A store did not answer to a commit, and does not tell whether it was done."""


@contextmanager
def committing() -> Iterator[None]:
    """Let nobody take for undone what a store may have done, unless it was refused."""
    try:
        yield
    except (AirflowException, FileNotFoundError, UnknownOutcomeError):
        raise
    except Exception as error:
        if lacks_permission(error):
            raise
        raise UnknownOutcomeError(f"{type(error).__name__}: {error}") from error


def lacks_permission(error: Exception) -> bool:
    """Tell whether a store has refused for want of permission, which each library words in its own way."""
    return (
        isinstance(error, PermissionError)  # the operating system, and s3fs
        or getattr(error, "status_code", None) in _REFUSED  # Azure's
        or (type(error) is OSError and str(error).startswith("Forbidden: "))  # gcsfs
    )


def require_destination(destination: object) -> str | ObjectStoragePath:
    """
    Return the destination as given.

    :raises InvalidRequestError: when it is empty or no path, or relative to wherever the worker happens to run
    """
    text = destination.strip() if isinstance(destination, str) else ""
    scheme, _, rest = text.rpartition("://")
    is_absolute = rest.startswith("/") if scheme in {"", "file", "local"} else rest.strip("/") != ""
    if is_absolute and text.isprintable():
        return text
    if isinstance(destination, ObjectStoragePath):
        return destination
    raise InvalidRequestError(
        f"destination is {destination!r}: give an ObjectStoragePath or its text, e.g. s3://conn@bucket/clip.wav or "
        "file:///data/clips/."
    )


def resolve_destination(destination: str | ObjectStoragePath, audio_url: str, subject: str = "") -> ObjectStoragePath:
    """
    Return the path of the file to write, which in a folder takes the audio's own name.

    :param subject: whose audio is to be stored there, for the error
    :raises DestinationError: when no filesystem is known for it, or the audio's name would leave the folder
    """
    name = audio_name(audio_url, subject) if str(destination).endswith("/") else None
    try:
        path = ObjectStoragePath(destination)
        return path / name if name else path
    except ValueError as error:
        raise _no_filesystem(str(destination), error, subject) from error


def audio_name(audio_url: str, subject: str = "") -> str:
    """
    Return the name of the audio file in a link.

    :param subject: whose audio it is, for the error
    :raises DestinationError: when the link ends in no name, or in one that would leave its folder
    """
    # Not urlsplit: it refuses links that only their host makes odd, and this is about the name.
    name = unquote(re.split("[?#]", audio_url, maxsplit=1)[0].rpartition("/")[2])
    if name in {"", ".", ".."} or not name.isprintable() or "/" in name or "\\" in name:
        raise DestinationError(
            f"{_not_stored(subject)}the audio's own name is {name!r}, which cannot be used in a folder. Give a "
            "destination that names the file instead of ending in '/'."
        )
    return name


def existing_size(path: ObjectStoragePath, subject: str = "") -> int | None:
    """
    Return the size in bytes of what is at ``path``; ``None`` where nothing is.

    :param subject: whose audio is to be stored there
    """
    fs = filesystem_of(path, subject)
    with explaining(path, subject, doing="look at"):
        fs.invalidate_cache()
        try:
            if hasattr(fs, "call_s3"):
                # Not by info(), which lists where nothing is: that takes a permission that storing does not.
                bucket, key, _ = fs.split_path(path.path)
                return int(fs.call_s3("head_object", Bucket=bucket, Key=key)["ContentLength"])
            info = fs.info(path.path)
        except FileNotFoundError:
            return None
        return None if info["type"] == "directory" else info["size"] or 0


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
    except Exception as error:
        kind, problem = _explained(error, path, doing)
        raise kind(f"{_not_stored(subject)}{problem}") from error


def _not_stored(subject: str) -> str:
    return f"The audio of {subject} was not stored: " if subject else ""


def _explained(error: Exception, path: ObjectStoragePath, doing: str) -> tuple[type[AirflowException], str]:
    """Return what to raise, and its message."""
    code = _s3_code(error)
    state = _MAYBE if isinstance(error, UnknownOutcomeError) else _UNCHANGED
    problem = f"{path} could not be written: {code or type(error).__name__}: {error}."
    if code in _PASSING:
        return AudioTransferError, f"{problem} {state}"
    if lacks_permission(error):
        return DestinationError, (
            f"there is no permission to {doing} {path} ({error}). Grant it to the account that the worker runs with, "
            "or to the connection in the path."
        )
    if isinstance(error, IsADirectoryError):
        return DestinationError, f"{path} is a folder. End the destination with '/' to store into it."
    if isinstance(error, FileNotFoundError | FileExistsError | NotADirectoryError):
        return DestinationError, (
            f"{path} cannot be written: its bucket or folder does not exist, or is a file ({error})."
        )
    if isinstance(error, ValueError) or getattr(error, "errno", None) in _LASTING:
        return DestinationError, f"{problem} Check how the destination is written, and its connection."
    return AudioTransferError, f"{problem} {state}"


def _s3_code(error: Exception) -> str | None:
    """Return the code that S3 answered with, where s3fs has worded it as an error of the operating system."""
    response = getattr(error.__cause__, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def filesystem_of(path: ObjectStoragePath, subject: str = "") -> Any:
    """
    Return the fsspec filesystem of a path.

    :param subject: whose audio is to be stored there, for the error
    :raises DestinationError: when none is known for it, or its package is missing
    """
    try:
        return path.fs
    except (ImportError, ValueError) as error:
        raise _no_filesystem(str(path), error, subject) from error


def _no_filesystem(destination: str, error: Exception, subject: str) -> DestinationError:
    scheme = destination.partition("://")[0]
    package = _PACKAGE_OF_SCHEME.get(scheme)
    advice = f"Install {package}" if package else "Check how it is written, and that its provider package is installed"
    return DestinationError(f"{_not_stored(subject)}no filesystem can be used for {destination} ({error}). {advice}.")
