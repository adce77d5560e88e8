"""Clones whose response never comes, although MPS makes the voice."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mps.operators.voices import CloneVoiceOperator
from tests.clone_alone import make_context, shorten_times
from tests.scripted_server import HANG, RESET, Reply, make_api_error
from tests.slow_cloning import SlowCloning
from tests.state_store import MemoryStore
from tests.storing import make_wav

NO_RESPONSE = {
    "reset": lambda _: RESET,
    "timeout": lambda _: HANG,
    "cut": lambda reply: Reply(reply.body, headers=reply.headers, cut_at=9),
    "bad_gateway": lambda _: Reply(b"<html>", 502),
    "internal_error": lambda _: make_api_error("InternalError"),
    "no_voice_id": lambda _: Reply(
        b'{"Response": {"RequestId": "req-1"}}', headers={"Content-Type": "application/json"}
    ),
}

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture
def mps(connect):
    with SlowCloning() as server:
        connect(server.connection_uri)
        yield server


@pytest.fixture
def clone(monkeypatch, tmp_path):
    """Run an attempt that waits for a second for the response, and a few for the voice."""
    sample = make_wav(tmp_path / "ann.wav", 1)
    store = MemoryStore()

    def run(if_exists="reuse", try_number=1, *, has_store=True, grace=4.0, max_tries=10):
        shorten_times(monkeypatch.setattr, clone_timeout=1, grace=grace)
        context = make_context(store if has_store else None, try_number, max_tries)
        operator = CloneVoiceOperator(task_id="clone", audio=str(sample), name="ann", if_exists=if_exists)
        return operator.execute(context)

    return run


@pytest.mark.parametrize("fault", NO_RESPONSE)
@pytest.mark.parametrize("if_exists", ["reuse", "fail", "create"])
def test_voice_without_response_is_found_by_same_attempt(mps, clone, fault, if_exists):
    known = mps.add_clone("ann") if if_exists == "create" else None
    mps.replace_response = NO_RESPONSE[fault]
    voice_id = clone(if_exists)
    assert mps.list_clones("ann") == [voice for voice in (known, voice_id) if voice]
    assert mps.actions["CloneVoice"] == 1


@pytest.mark.parametrize("has_store", [True, False])
def test_voice_is_found_although_listed_late(mps, clone, has_store, capsys):
    mps.replace_response = NO_RESPONSE["reset"]
    mps.hidden_listings = 5
    voice_id = clone("create", has_store=has_store)
    assert mps.list_clones("ann") == [voice_id]
    assert mps.actions["DescribeVoices"] >= 7
    assert f"Found voice {voice_id}: MPS has made it" in capsys.readouterr().out


def test_voice_made_after_client_timeout_is_found(mps, clone):
    mps.clone_delay = 2.5
    voice_id = clone("create", grace=20)
    assert mps.list_clones("ann") == [voice_id]
    assert mps.actions["CloneVoice"] == 1


def test_voice_listed_after_grace_period_is_found_by_retry(mps, clone):
    mps.replace_response = NO_RESPONSE["reset"]
    mps.hidden_listings = 1000
    with pytest.raises(AirflowException, match="A retry looks for it again before it clones the voice") as raised:
        clone("create", grace=1.0)
    assert not isinstance(raised.value, AirflowFailException)
    mps.show_all()
    voice_id = clone("create", 2, grace=1.0)
    assert mps.list_clones("ann") == [voice_id]
    assert mps.actions["CloneVoice"] == 1


@pytest.mark.parametrize(("if_exists", "is_retried"), [("reuse", True), ("fail", False), ("create", False)])
def test_voice_not_found_without_store_is_retried_only_to_reuse(mps, clone, if_exists, is_retried):
    mps.replace_response = NO_RESPONSE["reset"]
    mps.hidden_listings = 1000
    with pytest.raises(AirflowException, match="No new voice named 'ann' appeared") as raised:
        clone(if_exists, has_store=False, grace=1.0)
    assert isinstance(raised.value, AirflowFailException) is not is_retried
    if is_retried:
        mps.show_all()
        assert [clone(if_exists, 2, has_store=False)] == mps.list_clones("ann")
    assert mps.actions["CloneVoice"] == 1


def test_clear_of_create_makes_another_voice(mps, clone):
    first = clone("create", max_tries=0)
    assert clone("create", 1, max_tries=0) == first  # a retry
    second = clone("create", 2, max_tries=1)
    assert mps.list_clones("ann") == [first, second]


@pytest.mark.parametrize("if_exists", ["reuse", "fail", "create"])
def test_recorded_voice_listed_late_is_not_cloned_again(mps, clone, if_exists):
    mps.hidden_listings = 2
    voice_id = clone(if_exists)
    assert clone(if_exists, 2) == voice_id
    assert mps.list_clones("ann") == [voice_id]
