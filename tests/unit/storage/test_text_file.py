import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.storage import text_file
from airflow_provider_mps.storage.text_file import read_text, validate_text_source
from tests.tracebacks import printed


@pytest.fixture
def file(tmp_path):
    return tmp_path / "chapter.txt"


def test_read_text_decodes_utf_8(file):
    file.write_text("Grüße, 世界")
    assert read_text(f"file://{file}") == read_text(str(file)) == "Grüße, 世界"


def test_read_text_removes_byte_order_mark(file):
    file.write_bytes(b"\xef\xbb\xbfhello")
    assert read_text(f"file://{file}") == "hello"


def test_read_text_invalid_utf_8_error_names_byte(file):
    file.write_bytes(b"Gr\xfc\xdfe")
    with pytest.raises(InvalidRequestError, match=r"chapter.txt is not UTF-8 \(byte 3\): nothing was submitted"):
        read_text(f"file://{file}")


def test_read_text_missing_file_raises_without_retry(file):
    with pytest.raises(InvalidRequestError, match=r"chapter.txt cannot be read.*nothing was submitted") as caught:
        read_text(f"file://{file}")
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("path", ["nowhere://bucket/a", "file:///", "chapter.txt", ""])
def test_read_text_invalid_path_raises(path):
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        read_text(path)


def test_read_text_larger_than_limit_raises(file, monkeypatch):
    monkeypatch.setattr(text_file, "MAX_TEXT_BYTES", 4)
    file.write_text("12345")
    with pytest.raises(InvalidRequestError, match="more than 4 bytes"):
        read_text(f"file://{file}")
    file.write_text("1234")
    assert read_text(f"file://{file}") == "1234"


def test_read_text_transient_error_is_retryable(file):
    file.parent.joinpath("loop").symlink_to("loop")
    with pytest.raises(AirflowException, match="could not be read this time") as caught:
        read_text(f"file://{file.parent}/loop")
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(("text", "path"), [(None, None), ("", None), (None, ""), ("", "")])
def test_validate_text_source_without_text_raises(text, path):
    with pytest.raises(InvalidRequestError, match="text is empty"):
        validate_text_source(text, path)


def test_validate_text_source_with_both_raises():
    with pytest.raises(InvalidRequestError, match="text and text_path are both given"):
        validate_text_source("hello", "file:///a")


@pytest.mark.parametrize(("text", "path"), [("hello", None), ("hello", ""), (None, "file:///a")])
def test_validate_text_source_with_one_passes(text, path):
    validate_text_source(text, path)


@pytest.mark.parametrize(
    "given",
    [
        "https://clips.cos.example/chapter.txt?q-signature=SECRET",
        "nowhere://user:SECRET@bucket/chapter.txt",
        "/nowhere/chapter.txt?q-signature=SECRET",
        "chapter.txt?q-signature=SECRET",
        {"AudioUrl": "https://clips.cos.example/a.wav?q-signature=SECRET"},
        "{'AudioUrl': 'https://clips.cos.example/a.wav?q-signature=SECRET'}",
    ],
)
def test_read_text_errors_and_tracebacks_hide_signatures(given):
    with pytest.raises(AirflowException) as caught:
        read_text(given)
    assert "SECRET" not in printed(caught.value)
