import errno

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from azure.core.exceptions import HttpResponseError
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from airflow_provider_mps.errors import AudioTransferError, DestinationError
from airflow_provider_mps.store_errors import UnknownOutcomeError, committing, explaining, is_full


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
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
def test_whatever_a_filesystem_raises_becomes_a_sentence_about_the_path(raised, kind, said):
    with (
        pytest.raises(kind, match=f"memory://a.*{said}|{said}.*memory://a"),
        explaining(ObjectStoragePath("memory://a")),
    ):
        raise raised


@pytest.mark.parametrize(
    ("code", "kind"),
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
def test_what_s3_says_of_one_try_is_worth_another(code, kind):
    refusal = ClientError({"Error": {"Code": code, "Message": "refused"}}, "PutObject")
    with pytest.raises(kind, match="memory://a"), explaining(ObjectStoragePath("memory://a")):
        raise translate_boto_error(refusal) from refusal


@pytest.mark.parametrize(
    ("status", "kind"), [(401, DestinationError), (403, DestinationError), (503, AudioTransferError)]
)
def test_azures_refusals_are_told_from_its_moments_of_weakness(status, kind):
    answered = HttpResponseError("answered")
    answered.status_code = status
    with pytest.raises(kind), explaining(ObjectStoragePath("memory://a")):
        raise answered


@pytest.mark.parametrize("refusal", [PermissionError("denied"), OSError("Forbidden: /b/clips"), FileNotFoundError("x")])
def test_a_commit_that_was_refused_has_no_unknown_outcome(refusal):
    with pytest.raises(type(refusal)) as caught, committing():
        raise refusal
    assert caught.value is refusal


def test_a_commit_that_broke_off_has_an_unknown_outcome():
    with pytest.raises(UnknownOutcomeError, match="ConnectionResetError: gone"), committing():
        raise ConnectionResetError("gone")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_store_without_room_is_known_however_often_its_error_was_wrapped(code):
    with pytest.raises(AudioTransferError) as caught, explaining(ObjectStoragePath("memory://a")), committing():
        raise OSError(code, "no room")
    assert is_full(caught.value)
    assert not is_full(OSError(errno.EIO, "input/output error"))
