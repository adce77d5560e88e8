"""Where the audio goes: names decided, filesystems found, refusals explained."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.errors import AudioTransferError, DestinationError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE_OF_SCHEME = {
    "s3": "airflow-provider-mps[s3]",
    "gs": "apache-airflow-providers-google",
    "abfs": "apache-airflow-providers-microsoft-azure",
    "abfss": "apache-airflow-providers-microsoft-azure",
    "adl": "apache-airflow-providers-microsoft-azure",
    "wasb": "apache-airflow-providers-microsoft-azure",
}


def require_destination(destination: object) -> str | ObjectStoragePath:
    """
    Return the destination as given.

    :raises InvalidRequestError: when it is empty or no path
    """
    if isinstance(destination, str) and destination.strip() not in {"", "None"}:
        return destination.strip()
    if isinstance(destination, ObjectStoragePath):
        return destination
    raise InvalidRequestError(
        f"destination is {destination!r}: give an ObjectStoragePath or its text, e.g. s3://conn@bucket/clip.wav."
    )


def resolve_destination(destination: str | ObjectStoragePath, audio_url: str) -> ObjectStoragePath:
    """
    Return the path of the file to write, which in a folder takes the audio's own name.

    :raises DestinationError: when no filesystem is known for it, or the audio's name would leave the folder
    """
    try:
        path = ObjectStoragePath(destination)
    except ValueError as error:
        raise _no_filesystem(str(destination), error) from error
    return path / audio_name(audio_url) if str(destination).endswith("/") else path


def audio_name(audio_url: str) -> str:
    """
    Return the name of the audio file in a link.

    :raises DestinationError: when the link ends in no name, or in one that would leave its folder
    """
    name = unquote(urlsplit(audio_url).path.rpartition("/")[2])
    if name in {"", ".", ".."} or any(character in "/\\\0" for character in name):
        raise DestinationError(
            f"The audio's own name is {name!r}, which cannot be used in a folder. Give a destination that names the "
            "file instead of ending in '/'."
        )
    return name


def existing_size(path: ObjectStoragePath) -> int | None:
    """Return the size in bytes of what is at ``path``; ``None`` where nothing is."""
    fs = filesystem_of(path)
    with explaining(path):
        fs.invalidate_cache()
        try:
            info = fs.info(path.path)
        except FileNotFoundError:
            return None
        return info["size"] if info["type"] == "file" else None


@contextmanager
def explaining(path: ObjectStoragePath) -> Iterator[None]:
    """Turn whatever a filesystem raises about ``path`` into a sentence that says what to mend."""
    try:
        yield
    except AirflowException:
        raise
    except PermissionError as error:
        raise DestinationError(
            f"There is no permission to write {path} ({error}). Grant it to the account that the worker runs with, or "
            "to the connection in the path."
        ) from error
    except IsADirectoryError as error:
        raise DestinationError(f"{path} is a folder. End the destination with '/' to store into it.") from error
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        raise DestinationError(
            f"{path} cannot be written: its bucket or folder does not exist, or is a file ({error})."
        ) from error
    except Exception as error:
        raise AudioTransferError(
            f"{path} could not be written: {type(error).__name__}: {error}. Nothing was left there by this try."
        ) from error


def filesystem_of(path: ObjectStoragePath) -> Any:
    """
    Return the fsspec filesystem of a path.

    :raises DestinationError: when none is known for it, or its package is missing
    """
    try:
        return path.fs
    except (ImportError, ValueError) as error:
        raise _no_filesystem(str(path), error) from error


def _no_filesystem(destination: str, error: Exception) -> DestinationError:
    scheme = destination.partition("://")[0]
    package = _PACKAGE_OF_SCHEME.get(scheme)
    install = f"Install {package}" if package else "Check the scheme, and install the provider package that brings it"
    return DestinationError(f"No filesystem can be used for {destination} ({error}). {install}.")
