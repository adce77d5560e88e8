"""Where the audio goes: names decided, filesystems found."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.errors import DestinationError, InvalidRequestError
from airflow_provider_mps.older_airflow import let_paths_know_cos
from airflow_provider_mps.redaction import cause_of, describe_error, quoted, shown_path
from airflow_provider_mps.store_errors import explaining, not_stored
from airflow_provider_mps.text_value import has_control_characters

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


def require_destination(destination: object) -> str | ObjectStoragePath:
    """
    Return the destination as given.

    :raises InvalidRequestError: when it is empty or no path, or relative to wherever the worker happens to run
    """
    text = str(destination).strip() if isinstance(destination, str | ObjectStoragePath) else ""
    scheme, _, rest = text.rpartition("://")
    is_absolute = rest.startswith("/") if scheme in {"", "file", "local"} else rest.strip("/") != ""
    if is_absolute and not has_control_characters(text):
        # Without a scheme, Airflow can make a path of a path no more.
        return destination if isinstance(destination, ObjectStoragePath) and scheme else text
    raise InvalidRequestError(
        f"destination is {quoted(destination)}: give an ObjectStoragePath or its text, e.g. s3://conn@bucket/clip.wav "
        "or file:///data/clips/."
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
        raise _no_filesystem(str(destination), error, subject) from cause_of(error)


def audio_name(audio_url: str, subject: str = "") -> str:
    """
    Return the name of the audio file in a link.

    :param subject: whose audio it is, for the error
    :raises DestinationError: when the link ends in no name, or in one that would leave its folder
    """
    # Not urlsplit: it refuses links that only their host makes odd, and this is about the name.
    name = unquote(re.split("[?#]", audio_url, maxsplit=1)[0].rpartition("/")[2])
    if name in {"", ".", ".."} or has_control_characters(name) or "/" in name or "\\" in name:
        raise DestinationError(
            f"{not_stored(subject)}the audio's own name is {quoted(name, 200)}, which cannot be used in a folder. Give "
            "a destination that names the file instead of ending in '/'."
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


def filesystem_of(path: ObjectStoragePath, subject: str = "") -> Any:
    """
    Return the fsspec filesystem of a path.

    :param subject: whose audio is to be stored there, for the error
    :raises DestinationError: when none is known for it, or its package is missing
    """
    try:
        return path.fs
    except (ImportError, ValueError) as error:
        raise _no_filesystem(str(path), error, subject) from cause_of(error)


def _no_filesystem(destination: str, error: Exception, subject: str) -> DestinationError:
    scheme = destination.partition("://")[0]
    package = _PACKAGE_OF_SCHEME.get(scheme)
    advice = f"Install {package}" if package else "Check how it is written, and that its provider package is installed"
    return DestinationError(
        f"{not_stored(subject)}no filesystem can be used for {shown_path(destination)} ({describe_error(error)}). "
        f"{advice}."
    )
