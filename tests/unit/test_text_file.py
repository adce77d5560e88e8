import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mps import text_file
from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.text_file import read_text, require_one_text
from tests.tracebacks import printed


@pytest.fixture
def file(tmp_path):
    return tmp_path / "chapter.txt"


def test_a_text_is_read_as_utf_8(file):
    file.write_text("Grüße, 世界")
    assert read_text(f"file://{file}") == read_text(str(file)) == "Grüße, 世界"


def test_a_byte_order_mark_is_not_spoken(file):
    file.write_bytes(b"\xef\xbb\xbfhello")
    assert read_text(f"file://{file}") == "hello"


def test_what_is_not_utf_8_is_refused_and_its_place_is_told(file):
    file.write_bytes(b"Gr\xfc\xdfe")
    with pytest.raises(InvalidRequestError, match=r"chapter.txt is not UTF-8 \(byte 3\): nothing was submitted"):
        read_text(f"file://{file}")


def test_a_file_that_is_not_there_is_an_error_that_no_retry_mends(file):
    with pytest.raises(InvalidRequestError, match=r"chapter.txt cannot be read.*nothing was submitted") as caught:
        read_text(f"file://{file}")
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("path", ["nowhere://bucket/a", "file:///", "chapter.txt", ""])
def test_what_is_no_file_is_refused(path):
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        read_text(path)


def test_no_more_is_read_than_a_request_can_hold(file, monkeypatch):
    monkeypatch.setattr(text_file, "MAX_BYTES", 4)
    file.write_text("12345")
    with pytest.raises(InvalidRequestError, match="more than 4 bytes"):
        read_text(f"file://{file}")
    file.write_text("1234")
    assert read_text(f"file://{file}") == "1234"


def test_an_error_that_may_pass_may_be_retried(file):
    file.parent.joinpath("loop").symlink_to("loop")
    with pytest.raises(AirflowException, match="could not be read this time") as caught:
        read_text(f"file://{file.parent}/loop")
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(("text", "path"), [(None, None), ("", None), (None, ""), ("", "")])
def test_a_text_or_a_file_is_needed(text, path):
    with pytest.raises(InvalidRequestError, match="text is empty"):
        require_one_text(text, path)


def test_a_text_and_a_file_are_too_much():
    with pytest.raises(InvalidRequestError, match="text and text_path are both given"):
        require_one_text("hello", "file:///a")


@pytest.mark.parametrize(("text", "path"), [("hello", None), ("hello", ""), (None, "file:///a")])
def test_one_of_them_is_right(text, path):
    require_one_text(text, path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_text_of_another_encoding_is_refused(file, encoding):
    file.write_bytes("Call me Ishmael.".encode(encoding))
    with pytest.raises(InvalidRequestError, match=r"U\+0000 \(character \d\): nothing was submitted. It may be UTF-16"):
        read_text(str(file))


@pytest.mark.parametrize("content", [b"text" + bytes(512), b"PK\x03\x04\x14\x00", b"bell\x07", b"\x1b[1mbold"])
def test_what_no_text_has_is_refused(file, content):
    file.write_bytes(content)
    with pytest.raises(InvalidRequestError, match="has the control character"):
        read_text(str(file))


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
def test_no_signature_of_a_path_is_quoted_nor_in_the_traceback(given):
    with pytest.raises(AirflowException) as caught:
        read_text(given)
    assert "SECRET" not in printed(caught.value)
