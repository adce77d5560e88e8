import errno

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from azure.core.exceptions import HttpResponseError
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from airflow_provider_mps.exceptions import AudioTransferError, DestinationError
from airflow_provider_mps.storage.errors import (
    UnknownOutcomeError,
    commit_guard,
    is_storage_full,
    translate_storage_errors,
)


@pytest.mark.parametrize(
    ("raised", "error_class", "message"),
    [
        (PermissionError("denied"), DestinationError, "permission"),
        (OSError("Forbidden: /b/clips"), DestinationError, "permission"),
        (IsADirectoryError("x"), DestinationError, "is a folder"),
        (FileNotFoundError("x"), DestinationError, "does not exist"),
        (NotADirectoryError("x"), DestinationError, "does not exist"),
        (OSError("disk full"), AudioTransferError, "disk full"),
        (ValueError("odd"), DestinationError, "odd"),
        (OSError(errno.EROFS, "read-only"), DestinationError, "read-only"),
        (OSError(errno.ENAMETOOLONG, "too long"), DestinationError, "too long"),
    ],
)
def test_filesystem_error_is_translated_with_path(raised, error_class, message):
    with (
        pytest.raises(error_class, match=f"memory://a.*{message}|{message}.*memory://a"),
        translate_storage_errors(ObjectStoragePath("memory://a")),
    ):
        raise raised


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        ("400", AudioTransferError),
        ("BadDigest", AudioTransferError),
        ("InvalidPart", AudioTransferError),
        ("ExpiredToken", AudioTransferError),
        ("NoSuchUpload", AudioTransferError),
        ("AccessDenied", DestinationError),
        ("NoSuchBucket", DestinationError),
        ("InvalidArgument", DestinationError),
    ],
)
def test_s3_error_code_is_transient_or_permanent(code, error_class):
    rejection = ClientError({"Error": {"Code": code, "Message": "rejected"}}, "PutObject")
    with pytest.raises(error_class, match="memory://a"), translate_storage_errors(ObjectStoragePath("memory://a")):
        raise translate_boto_error(rejection) from rejection


@pytest.mark.parametrize(
    ("status", "error_class"), [(401, DestinationError), (403, DestinationError), (503, AudioTransferError)]
)
def test_azure_status_is_transient_or_permanent(status, error_class):
    error = HttpResponseError("failed")
    error.status_code = status
    with pytest.raises(error_class), translate_storage_errors(ObjectStoragePath("memory://a")):
        raise error


@pytest.mark.parametrize(
    "rejection", [PermissionError("denied"), OSError("Forbidden: /b/clips"), FileNotFoundError("x")]
)
def test_rejected_commit_is_no_unknown_outcome(rejection):
    with pytest.raises(type(rejection)) as caught, commit_guard():
        raise rejection
    assert caught.value is rejection


def test_interrupted_commit_is_unknown_outcome():
    with pytest.raises(UnknownOutcomeError, match="ConnectionResetError: gone"), commit_guard():
        raise ConnectionResetError("gone")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_is_full_recognizes_wrapped_errors(code):
    with (
        pytest.raises(AudioTransferError) as caught,
        translate_storage_errors(ObjectStoragePath("memory://a")),
        commit_guard(),
    ):
        raise OSError(code, "no room")
    assert is_storage_full(caught.value)
    assert not is_storage_full(OSError(errno.EIO, "input/output error"))
