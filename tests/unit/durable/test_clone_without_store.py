"""A clone without a task state store: a retry must not make a second voice beside one that it cannot identify."""

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowTaskTimeout

from airflow_provider_mps.durable import clone
from airflow_provider_mps.exceptions import AudioTransferError, MpsApiError
from airflow_provider_mps.operators.voices import CloneVoiceOperator
from tests.scripted_server import RESET, Reply, ScriptedServer, make_api_error, make_json_reply
from tests.state_store import MemoryStore
from tests.storing import make_wav

pytestmark = pytest.mark.usefixtures("no_waiting")
GONE = Reply(b"gone", 404)


class Mps:
    """An MPS whose list of voices stays empty, and which responds to a clone and to downloads as a test says."""

    def __init__(self):
        self.clone = None
        self.sent = 0

    def respond(self, request):
        if request.method == "GET":
            return GONE
        if request.headers["x-tc-action"] == "CloneVoice":
            self.sent += 1
            return self.clone
        return make_json_reply({"Response": {"TotalCount": 0, "Voices": []}})


@pytest.fixture
def mps(connect, monkeypatch):
    monkeypatch.setattr(clone, "GRACE_SECONDS", 0.0)
    mps = Mps()
    with ScriptedServer(mps.respond) as server:
        connect(server.connection_uri())
        made = {"VoiceId": "voice-7", "AudioUrl": f"{server.url}/trial.wav", "RequestId": "req-1"}
        mps.clone = make_json_reply({"Response": made})
        yield mps


@pytest.fixture
def operator(tmp_path):
    """Make the operator, which stores a trial audio that cannot be downloaded."""

    def make(if_exists, **arguments):
        return CloneVoiceOperator(
            task_id="clone",
            audio=str(make_wav(tmp_path / "ann.wav", 1)),
            name="ann",
            trial_text="hello",
            trial_destination=f"file://{tmp_path}/trial.wav",
            if_exists=if_exists,
            transfer_timeout=20,
            **arguments,
        )

    return make


def make_context(store=None):
    return {"task_state_store": store} if store else {}


@pytest.mark.parametrize("if_exists", ["create", "fail"])
def test_failure_after_clone_without_store_not_retried(mps, operator, if_exists):
    with pytest.raises(AirflowFailException, match=r"\(AudioTransferError\) after MPS had made voice voice-7.*clear"):
        operator(if_exists).execute(make_context())
    assert mps.sent == 1


def test_failure_after_clone_not_durable_not_retried(mps, operator):
    with pytest.raises(AirflowFailException, match="made voice voice-7"):
        operator("create", durable=False).execute(make_context(MemoryStore()))


@pytest.mark.parametrize(("if_exists", "store"), [("reuse", None), ("create", MemoryStore()), ("fail", MemoryStore())])
def test_failure_after_clone_that_retry_finds_retried(mps, operator, if_exists, store):
    with pytest.raises(AudioTransferError):
        operator(if_exists).execute(make_context(store))


@pytest.mark.parametrize("if_exists", ["create", "fail"])
def test_timeout_during_clone_without_store_not_retried(mps, operator, if_exists, monkeypatch):
    def end_attempt(_):
        raise AirflowTaskTimeout("execution_timeout ended")

    monkeypatch.setattr("airflow_provider_mps.api.voice_actions._parse_clone", end_attempt)
    with pytest.raises(AirflowFailException, match=r"\(AirflowTaskTimeout\) after the sample was sent"):
        operator(if_exists).execute(make_context())
    assert mps.sent == 1


def test_failure_before_clone_without_store_retried(mps, operator):
    mps.clone = make_api_error("RequestLimitExceeded")
    with pytest.raises(MpsApiError) as raised:
        operator("create").execute(make_context())
    assert not isinstance(raised.value, AirflowFailException)


@pytest.mark.parametrize(("if_exists", "is_retried"), [("create", False), ("fail", False), ("reuse", True)])
def test_unknown_outcome_without_store_retried_only_with_reuse(mps, operator, if_exists, is_retried):
    mps.clone = RESET
    with pytest.raises(AirflowException, match="No new voice named 'ann' appeared") as raised:
        operator(if_exists).execute(make_context())
    assert isinstance(raised.value, AirflowFailException) is not is_retried
    assert mps.sent == 1


@pytest.mark.parametrize(
    ("store", "if_exists", "is_logged"),
    [(None, "create", True), (None, "reuse", False), (MemoryStore(), "create", False)],
)
def test_operator_without_store_logs_how_retry_finds_voice(mps, operator, capsys, caplog, store, if_exists, is_logged):
    caplog.set_level("INFO")
    with pytest.raises((AudioTransferError, AirflowFailException)):
        operator(if_exists).execute(make_context(store))
    assert ("no task state store" in caplog.text + capsys.readouterr().out) is is_logged
