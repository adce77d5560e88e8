from urllib.parse import quote

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath

from airflow_provider_mps.exceptions import DestinationError, InvalidRequestError
from airflow_provider_mps.storage.destination import (
    get_audio_name,
    get_existing_size,
    get_filesystem,
    parse_destination,
    resolve_destination,
)
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
def test_parse_destination_invalid_value_raises(destination):
    with pytest.raises(InvalidRequestError, match="destination"):
        parse_destination(destination)


def test_destination_with_trailing_slash_takes_audio_name():
    assert str(resolve_destination("file:///data/clips/", URL)) == "file:///data/clips/clip.wav"
    assert str(resolve_destination("s3://conn@bucket/", URL)) == "s3://conn@bucket/clip.wav"


def test_destination_without_trailing_slash_is_the_file():
    assert str(resolve_destination("file:///data/a.wav", URL)) == "file:///data/a.wav"
    path = ObjectStoragePath("s3://conn@bucket/a.wav")
    assert resolve_destination(path, URL) == path


@pytest.mark.parametrize("given", [str, ObjectStoragePath])
def test_destination_without_scheme_is_a_local_file(given, tmp_path):
    path = resolve_destination(parse_destination(given(f"{tmp_path}/a.wav")), URL)
    assert get_existing_size(path) is None
    (tmp_path / "a.wav").write_bytes(b"audio")
    assert get_existing_size(path) == 5


@pytest.mark.parametrize(
    "name", ["..%2F..%2Fetc%2Fpasswd", "..", ".", "%2e%2e", "", "a%2Fb.wav", "a%5Cb.wav", "a%00.wav", "a%0Ab.wav"]
)
def test_audio_name_that_leaves_its_folder_raises(name):
    with pytest.raises(DestinationError, match=r"task 1 was not stored.*name"):
        get_audio_name(f"https://bucket.example/folder/{name}?sign=1", "task 1")


def test_audio_name_is_percent_decoded():
    assert get_audio_name("https://bucket.example/%E4%BD%A0%20a.wav") == "你 a.wav"


@pytest.mark.parametrize(
    ("destination", "package"),
    [
        ("gs://bucket/a.wav", "apache-airflow-providers-google"),
        ("abfs://c/a.wav", "microsoft-azure"),
        ("foo://b/a", "foo"),
    ],
)
def test_filesystem_of_missing_package_error_names_package(destination, package):
    with pytest.raises(DestinationError, match=f"task 1 was not stored.*{package}") as caught:
        get_filesystem(resolve_destination(destination, URL, "task 1"), "task 1")
    assert isinstance(caught.value, AirflowFailException)


def test_existing_size_of_folder_or_missing_file_is_none(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"12345")
    assert get_existing_size(ObjectStoragePath(f"file://{tmp_path}/a.wav")) == 5
    assert get_existing_size(ObjectStoragePath(f"file://{tmp_path}/b.wav")) is None
    assert get_existing_size(ObjectStoragePath(f"file://{tmp_path}")) is None


@pytest.mark.parametrize(
    "name", ["a\xa0b", "a\u202fb", "می\u200cخواهم", "👩\u200d🚀", "a\xadb", "\U0001fae9", "a\u2028b"]
)
def test_names_with_unusual_characters_are_accepted(name):
    assert parse_destination(f"file:///clips/{name}.wav") == f"file:///clips/{name}.wav"
    assert get_audio_name(f"https://cos.example/{quote(name)}.wav?sign=a") == f"{name}.wav"


@pytest.mark.parametrize("character", ["\x00", "\n", "\x7f", "\x85", "\ud800"])
def test_names_with_control_characters_or_surrogates_raise(character):
    with pytest.raises(InvalidRequestError):
        parse_destination(f"file:///clips/a{character}.wav")
    with pytest.raises(DestinationError):
        get_audio_name(f"https://cos.example/a{character}.wav")


@pytest.mark.parametrize(
    "given",
    ["https://bucket.example/clip.wav?sign=SECRET", "nowhere://user:SECRET@bucket/clip.wav", "clip.wav?sign=SECRET"],
)
def test_destination_errors_and_tracebacks_hide_signatures(given):
    with pytest.raises(AirflowFailException) as caught:
        get_filesystem(resolve_destination(parse_destination(given), "https://cos.example/a.wav"))
    assert "SECRET" not in printed(caught.value)
