import pytest

from airflow_provider_mps import redaction


@pytest.fixture
def masked(monkeypatch):
    masked = []
    monkeypatch.setattr(redaction, "mask_secret", masked.append)
    return masked


def test_what_is_signed_in_a_link_is_masked(masked):
    redaction.mask_link("https://cos.example/audio.wav?expires=1&sign=abc")
    assert masked == ["expires=1&sign=abc"]


@pytest.mark.parametrize("link", [None, "", "https://cos.example/audio.wav", "https://cos.example/audio.wav?"])
def test_nothing_is_masked_where_nothing_is_signed(masked, link):
    redaction.mask_link(link)
    assert masked == []
