import base64
import wave
from io import BytesIO

import pytest

from airflow_provider_mps.emulator.speech import Style, speak
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.speech.audio_sample import MAX_SAMPLE_BYTES, AudioSample, is_url

WAV = speak("A sample", style=Style(), voice="tone")
BODY = bytes(100)


def make_empty_wav():
    buffer = BytesIO()
    with wave.open(buffer, "wb") as audio:
        audio.setparams((1, 2, 16000, 0, "NONE", ""))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "head",
    [
        *(WAV[:12], b"RF64\xff\xff\xff\xffWAVE", b"ID3\x04", b"\xff\xfb\x90", b"\xff\xf3\x40", b"\xff\xf1\x50"),
        *(b"fLaC", b"OggS", b"\x00\x00\x00\x20ftypM4A ", b"FORM\0\0\0\0AIFF", b"FORM\0\0\0\0AIFC", b"#!AMR\n"),
        *(b"\x1aE\xdf\xa3", b"caff"),
        b"RIFF\n\n\n\nWAVE",  # a size of line feeds
    ],
)
def test_sample_of_known_format_is_accepted(head):
    assert AudioSample.from_bytes(head + BODY).data == head + BODY


@pytest.mark.parametrize(
    "data",
    [
        *(b"hello, I am no audio", b"\xff\xfeh\0e\0l\0l\0o\0", b"\xfe\xff\0h\0e", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n"),
        *(b"\xff\xd8\xff\xe0 a JPEG", b"RIFF\0\0\0\0AVI LIST", b"{}", b"xID3", bytes(100), b"PK\x03\x04"),
    ],
)
def test_sample_that_is_not_audio_raises(data):
    with pytest.raises(InvalidRequestError, match="audio has no known audio format: no voice was created"):
        AudioSample.from_bytes(data)


@pytest.mark.parametrize("data", [b"", make_empty_wav()])
def test_empty_sample_raises(data):
    with pytest.raises(InvalidRequestError, match=r"a\.wav is empty: no voice was created"):
        AudioSample.from_bytes(data, "a.wav")


def test_sample_of_limit_fits_and_one_byte_more_raises():
    largest = WAV + bytes(MAX_SAMPLE_BYTES - len(WAV))
    assert len(AudioSample.from_bytes(largest).to_api()["AudioData"]) < 10_000_000
    with pytest.raises(InvalidRequestError, match=f"has more than {MAX_SAMPLE_BYTES} bytes.*no voice was created"):
        AudioSample.from_bytes(largest + b"\0")


def test_to_api_has_base64_or_url():
    assert base64.b64decode(AudioSample(data=WAV).to_api()["AudioData"]) == WAV
    assert AudioSample(url="https://a/b.wav?sign=1").to_api() == {"AudioUrl": "https://a/b.wav?sign=1"}


def test_digest_depends_on_content_but_not_on_signature():
    assert AudioSample(data=WAV).digest != AudioSample(data=WAV + b"\0").digest
    assert AudioSample(url="https://a/b.wav?sign=1").digest == AudioSample(url="https://a/b.wav?sign=2").digest
    assert AudioSample(url="https://a/b.wav").digest != AudioSample(url="https://a/c.wav").digest


def test_repr_hides_audio_and_url():
    assert repr(AudioSample(data=b"SECRET")) == repr(AudioSample(url="https://a/?sign=SECRET")) == "AudioSample()"


@pytest.mark.parametrize("audio", ["http://a/b", "https://a", " HTTPS://a/b?c ", "http://127.0.0.1:80"])
def test_http_url_is_url(audio):
    assert is_url(audio)


@pytest.mark.parametrize("audio", ["", "http://", "https:///b", "http://?a", "file:///http://a", "s3://a/b", "a.wav"])
def test_other_paths_are_no_url(audio):
    assert not is_url(audio)
