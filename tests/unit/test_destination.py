from urllib.parse import quote

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath

from airflow_provider_mps.destination import (
    audio_name,
    existing_size,
    filesystem_of,
    require_destination,
    resolve_destination,
)
from airflow_provider_mps.errors import DestinationError, InvalidRequestError
from tests.tracebacks import printed

URL = "https://bucket.cos.example/async_dubbing/clip.wav?sign=abc/def.wav"


@pytest.mark.parametrize(
    "destination",
    [
        "",
        "  ",
        "None",
        None,
        5,
        "clips/",
        "clip.wav",
        "./clips/",
        "~/clips/",
        "file://data/x.wav",
        "://x",
        "s3://",
        "s3:///",
        "s3://b/a\nb.wav",
        ObjectStoragePath("clips/a.wav"),
    ],
)
def test_a_missing_destination_is_refused_before_anything_moves(destination):
    with pytest.raises(InvalidRequestError, match="destination"):
        require_destination(destination)


def test_a_destination_that_ends_in_a_slash_is_a_folder_and_the_file_takes_the_audios_own_name():
    assert str(resolve_destination("file:///data/clips/", URL)) == "file:///data/clips/clip.wav"
    assert str(resolve_destination("s3://conn@bucket/", URL)) == "s3://conn@bucket/clip.wav"


def test_any_other_destination_is_the_file_itself():
    assert str(resolve_destination("file:///data/a.wav", URL)) == "file:///data/a.wav"
    path = ObjectStoragePath("s3://conn@bucket/a.wav")
    assert resolve_destination(path, URL) == path


@pytest.mark.parametrize("given", [str, ObjectStoragePath])
def test_a_path_without_a_scheme_is_a_file_of_the_worker(given, tmp_path):
    path = resolve_destination(require_destination(given(f"{tmp_path}/a.wav")), URL)
    assert existing_size(path) is None
    (tmp_path / "a.wav").write_bytes(b"audio")
    assert existing_size(path) == 5


@pytest.mark.parametrize(
    "name", ["..%2F..%2Fetc%2Fpasswd", "..", ".", "%2e%2e", "", "a%2Fb.wav", "a%5Cb.wav", "a%00.wav", "a%0Ab.wav"]
)
def test_an_audio_name_that_climbs_out_of_its_folder_is_refused(name):
    with pytest.raises(DestinationError, match=r"task 1 was not stored.*name"):
        audio_name(f"https://bucket.example/folder/{name}?sign=1", "task 1")


def test_an_audio_name_may_have_any_other_character():
    assert audio_name("https://bucket.example/%E4%BD%A0%20a.wav") == "你 a.wav"


@pytest.mark.parametrize(
    ("destination", "named"),
    [
        ("gs://bucket/a.wav", "apache-airflow-providers-google"),
        ("abfs://c/a.wav", "microsoft-azure"),
        ("foo://b/a", "foo"),
    ],
)
def test_a_scheme_without_its_package_is_an_error_that_names_the_package(destination, named):
    with pytest.raises(DestinationError, match=f"task 1 was not stored.*{named}") as caught:
        filesystem_of(resolve_destination(destination, URL, "task 1"), "task 1")
    assert isinstance(caught.value, AirflowFailException)


def test_the_size_of_what_is_there_is_told_and_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"12345")
    assert existing_size(ObjectStoragePath(f"file://{tmp_path}/a.wav")) == 5
    assert existing_size(ObjectStoragePath(f"file://{tmp_path}/b.wav")) is None
    assert existing_size(ObjectStoragePath(f"file://{tmp_path}")) is None


@pytest.mark.parametrize(
    "name", ["a\xa0b", "a\u202fb", "می\u200cخواهم", "👩\u200d🚀", "a\xadb", "\U0001fae9", "a\u2028b"]
)
def test_only_control_characters_are_refused_in_names(name):
    assert require_destination(f"file:///clips/{name}.wav") == f"file:///clips/{name}.wav"
    assert audio_name(f"https://cos.example/{quote(name)}.wav?sign=a") == f"{name}.wav"


@pytest.mark.parametrize("character", ["\x00", "\n", "\x7f", "\x85", "\ud800"])
def test_control_characters_and_surrogates_are_refused_in_names(character):
    with pytest.raises(InvalidRequestError):
        require_destination(f"file:///clips/a{character}.wav")
    with pytest.raises(DestinationError):
        audio_name(f"https://cos.example/a{character}.wav")


@pytest.mark.parametrize(
    "given",
    ["https://bucket.example/clip.wav?sign=SECRET", "nowhere://user:SECRET@bucket/clip.wav", "clip.wav?sign=SECRET"],
)
def test_no_signature_of_a_destination_is_quoted_nor_in_the_traceback(given):
    with pytest.raises(AirflowFailException) as caught:
        filesystem_of(resolve_destination(require_destination(given), "https://cos.example/a.wav"))
    assert "SECRET" not in printed(caught.value)
