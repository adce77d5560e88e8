import pytest

from airflow_provider_mps.transfer.content_type import choose_content_type


def test_what_the_server_tells_goes_first():
    assert choose_content_type("audio/x-odd", "a.wav") == "audio/x-odd"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.wav", "audio/wav"), ("A.WAV", "audio/wav"), ("a.mp3", "audio/mpeg"), ("a.b.flac", "audio/flac")],
)
def test_where_it_does_not_the_name_tells(name, kind):
    assert choose_content_type(None, name) == kind


@pytest.mark.parametrize("name", ["clip", "clip.", "clip.nobody-knows-this", ""])
def test_where_neither_does_nothing_is_claimed(name):
    assert choose_content_type(None, name) is None
