"""Resolve destinations: file names, filesystems and existing objects."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.exceptions import DestinationError, InvalidRequestError
from airflow_provider_mps.fs import register_cos_with_upath
from airflow_provider_mps.redaction import describe_error, format_path, get_safe_cause, quote_value
from airflow_provider_mps.storage.errors import format_not_stored, translate_storage_errors

_CONTROL_CHARACTER = "[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
_PACKAGE_BY_SCHEME = {
    "cos": "airflow-provider-mps[cos]",
    "s3": "airflow-provider-mps[s3]",
    "gs": "apache-airflow-providers-google",
    **dict.fromkeys(("abfs", "abfss", "adl", "wasb"), "apache-airflow-providers-microsoft-azure"),
}

register_cos_with_upath()


def parse_destination(destination: object) -> str | ObjectStoragePath:
    """
    Return the argument ``destination``.

    :raises InvalidRequestError: if it is empty, relative or not a path
    """
    text = str(destination).strip() if isinstance(destination, str | ObjectStoragePath) else ""
    scheme, _, rest = text.rpartition("://")
    is_absolute = rest.startswith("/") if scheme in {"", "file", "local"} else rest.strip("/") != ""
    if is_absolute and not has_control_characters(text):
        # Airflow cannot copy an ObjectStoragePath without a scheme.
        return destination if isinstance(destination, ObjectStoragePath) and scheme else text
    raise InvalidRequestError(
        "destination must be an absolute ObjectStoragePath or its text form, e.g. s3://conn@bucket/clip.wav or "
        f"file:///data/clips/, not {quote_value(destination)}."
    )


def resolve_destination(destination: str | ObjectStoragePath, audio_url: str, subject: str = "") -> ObjectStoragePath:
    """
    Return the path of the file to write. A destination that ends in ``/`` is a folder for the audio's own name.

    :param subject: the task or line whose audio it is, for the error
    :raises DestinationError: if the scheme has no filesystem, or the audio's name would leave the folder
    """
    name = get_audio_name(audio_url, subject) if is_folder(destination) else None
    try:
        path = ObjectStoragePath(destination)
        return path / name if name else path
    except ValueError as error:
        raise _make_filesystem_error(str(destination), error, subject) from get_safe_cause(error)


def is_folder(destination: str | ObjectStoragePath) -> bool:
    """Return whether a destination is a folder, in which the file gets the audio's own name."""
    return str(destination).endswith("/")


def get_url_basename(url: str) -> str:
    """Return the last part of a URL's path, decoded; empty if the path ends in a slash."""
    # urlsplit rejects some hosts, which do not matter here.
    return unquote(re.split("[?#]", url, maxsplit=1)[0].rpartition("/")[2])


def is_local(path: ObjectStoragePath) -> bool:
    """Return whether a path is on this machine."""
    return path.protocol in {"", "file", "local"}


def get_audio_name(audio_url: str, subject: str = "") -> str:
    """
    Return the file name in an audio URL.

    :raises DestinationError: if the URL has no file name, or one that would leave its folder
    """
    name = get_url_basename(audio_url)
    if name in {"", ".", ".."} or has_control_characters(name) or "/" in name or "\\" in name:
        raise DestinationError(
            f"{format_not_stored(subject)}the audio's own name {quote_value(name, 200)} cannot be used as a file "
            "name. Set a destination that does not end in '/'."
        )
    return name


def has_control_characters(name: str) -> bool:
    """Return whether a file name has a control character or a surrogate, which no storage accepts."""
    return re.search(_CONTROL_CHARACTER, name) is not None


def get_existing_size(path: ObjectStoragePath, subject: str = "") -> int | None:
    """
    Return the size of a file in bytes; ``None`` if there is none.

    :raises DestinationError: if the destination must be fixed
    :raises AudioTransferError: if the storage fails this time
    """
    fs = get_filesystem(path, subject)
    with translate_storage_errors(path, subject, action="look at"):
        fs.invalidate_cache()
        try:
            if hasattr(fs, "call_s3"):
                # info() lists missing keys, which needs a permission that storing does not.
                bucket, key, _ = fs.split_path(path.path)
                return int(fs.call_s3("head_object", Bucket=bucket, Key=key)["ContentLength"])
            info = fs.info(path.path)
        except FileNotFoundError:
            return None
        return None if info["type"] == "directory" else info["size"] or 0


def get_filesystem(path: ObjectStoragePath, subject: str = "") -> Any:
    """
    Return the fsspec filesystem of a path.

    :raises DestinationError: if the scheme has no filesystem, or its package is missing
    """
    try:
        return path.fs
    except (ImportError, ValueError) as error:
        raise _make_filesystem_error(str(path), error, subject) from get_safe_cause(error)


def _make_filesystem_error(destination: str, error: Exception, subject: str) -> DestinationError:
    scheme = destination.partition("://")[0]
    package = _PACKAGE_BY_SCHEME.get(scheme)
    advice = f"Install {package}" if package else "Check its spelling, and that its provider package is installed"
    return DestinationError(
        f"{format_not_stored(subject)}there is no filesystem for {format_path(destination)} "
        f"({describe_error(error)}). {advice}."
    )
