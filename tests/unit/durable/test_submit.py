import logging
import re
from contextlib import suppress
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred
from tenacity import wait_fixed

from airflow_provider_mps.api.client import Client
from airflow_provider_mps.durable.record import STATE_KEY, SubmitRecord
from airflow_provider_mps.durable.submit import TEXT, DurableSubmit
from airflow_provider_mps.exceptions import (
    InvalidMpsConnectionError,
    MpsApiError,
    MpsPermanentError,
    TextToSpeechTaskFailed,
)
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.speech.parsing import OnUnknown
from airflow_provider_mps.speech.request import SpeechRequest
from tests.answers import ACCEPTED
from tests.scripted_server import RESET, ScriptedServer, make_api_error, make_json_reply
from tests.state_store import MemoryStore

pytestmark = pytest.mark.usefixtures("no_waiting")
HELLO = SpeechRequest("hello", "voice-1")
MAX_TRIES_AFTER_CLEAR = 1
"""``max_tries`` of a task with no retries after a user has cleared it."""


@pytest.fixture
def store():
    return MemoryStore()


def make_submit(store, on_unknown=OnUnknown.FAIL, **ti):
    """Return the DurableSubmit of one attempt."""
    context = {"ti": SimpleNamespace(**{"max_tries": 0, **ti}), "task_state_store": store}
    return DurableSubmit(TEXT, MpsHook(), context, on_unknown, logging.getLogger("attempt"))


@pytest.fixture
def attempt(store):
    """Make the DurableSubmit of one attempt."""

    def make(on_unknown=OnUnknown.FAIL, *, has_store=True, **ti):
        return make_submit(store if has_store else None, on_unknown, **ti)

    return make


@pytest.fixture
def server(connect):
    """Start an MPS server whose responses each test sets."""
    with ScriptedServer(ACCEPTED) as server:
        connect(server.connection_uri())
        yield server


def run_attempt(submit, error=None):
    """Run one attempt as the operator does, and end it with an error."""
    with submit.prevent_double_billing():
        if submit.reconnect(HELLO) is None:
            submit.submit(HELLO)
        if error is not None:
            raise error


def make_status_reply(name, **more):
    return make_json_reply({"Response": {"Status": name, "RequestId": "req-2", **more}})


def get_actions(server):
    return [request.headers["x-tc-action"] for request in server.requests]


def test_submit_records_task_id(server, attempt, store):
    assert attempt().submit(HELLO) == "task-1"
    assert SubmitRecord.load(store).task_id == "task-1"


def test_submit_is_recorded_before_request(server, attempt, store):
    def respond(_):
        records.append(SubmitRecord.load(store))
        return ACCEPTED

    records = []
    server.script = [respond]
    attempt().submit(HELLO)
    assert [record.task_id for record in records] == [None]


@pytest.mark.parametrize("name", ["processing", "success"])
def test_reconnect_returns_task_and_logs_it(server, attempt, name, caplog):
    caplog.set_level(logging.INFO)
    attempt().submit(HELLO)
    server.script = [make_status_reply(name)]
    assert attempt().reconnect(HELLO).task_id == "task-1"
    assert get_actions(server) == ["TextToSpeechAsync", "DescribeTextToSpeechAsyncTask"]
    assert "Reconnected to task task-1" in caplog.text
    assert "req-2" in caplog.text


def test_retry_does_not_resubmit_what_mps_failed(server, attempt):
    attempt().submit(HELLO)
    server.script = [make_status_reply("fail", ErrorCode=110, Msg="no such word")]
    for _ in range(3):
        with pytest.raises(TextToSpeechTaskFailed, match="no such word"):
            attempt(max_tries=0).reconnect(HELLO)
    assert get_actions(server).count("TextToSpeechAsync") == 1


def test_clear_resubmits_what_mps_failed(server, attempt, caplog):
    attempt().submit(HELLO)
    server.script = [make_status_reply("fail", ErrorCode=110, Msg="no such word")]
    assert attempt(max_tries=MAX_TRIES_AFTER_CLEAR).reconnect(HELLO) is None
    assert "Submitting again after a clear: MPS text-to-speech task task-1 failed" in caplog.text
    assert "no such word" in caplog.text


def test_retry_after_a_clear_does_not_resubmit(server, attempt):
    attempt().submit(HELLO)
    server.script = [make_status_reply("processing")]
    assert attempt(max_tries=MAX_TRIES_AFTER_CLEAR).reconnect(HELLO).task_id == "task-1"
    server.script = [make_status_reply("fail")]
    with pytest.raises(TextToSpeechTaskFailed):
        attempt(max_tries=MAX_TRIES_AFTER_CLEAR).reconnect(HELLO)


def test_clear_after_lowered_retries_resubmits(server, attempt):
    """Airflow's max_tries may then be unchanged, so the permanent failure is recorded."""
    attempt().submit(HELLO)
    server.script = [make_status_reply("fail")]
    with pytest.raises(TextToSpeechTaskFailed):
        run_attempt(attempt())
    assert attempt().reconnect(HELLO) is None


def test_clear_is_recognized_by_try_number(server, attempt):
    """If retries was lowered before the clear, max_tries may be unchanged, but there are more attempts than tries."""
    attempt().submit(HELLO)
    server.script = [make_status_reply("fail")]
    with pytest.raises(TextToSpeechTaskFailed):
        attempt(try_number=1).reconnect(HELLO)
    assert attempt(try_number=2).reconnect(HELLO) is None


@pytest.mark.parametrize("ends", ["unknown", "failed"])
def test_permanent_failure_is_recorded(server, attempt, store, ends):
    if ends == "failed":
        record_killed_attempt(store)
    server.script = [RESET]
    with pytest.raises(AirflowFailException):
        run_attempt(attempt())
    assert SubmitRecord.load(store).has_ended


def test_retry_after_success_does_not_resubmit(server, attempt):
    """Airflow pushes the XCom after the operator has returned, and retries the task if that fails."""
    run_attempt(attempt())
    server.script = [make_status_reply("fail")]
    with pytest.raises(TextToSpeechTaskFailed):
        run_attempt(attempt(max_tries=0))


def test_rejected_submit_keeps_earlier_record(server, attempt, store):
    run_attempt(attempt())
    server.script = [make_api_error("InvalidParameterValue")]
    with pytest.raises(MpsPermanentError):
        attempt(max_tries=MAX_TRIES_AFTER_CLEAR).submit(SpeechRequest("other", "voice-1"))
    server.script = [make_status_reply("success")]
    assert attempt(max_tries=MAX_TRIES_AFTER_CLEAR).reconnect(HELLO).task_id == "task-1"


@pytest.mark.parametrize("error", [AirflowException("later"), TaskDeferred(trigger=None, method_name="m")])
def test_retryable_failure_is_not_recorded_as_end(server, attempt, store, error):
    with pytest.raises(type(error)):
        run_attempt(attempt(), error)
    assert not SubmitRecord.load(store).has_ended


def test_store_failure_at_end_does_not_hide_error(server):
    store = FailingStore()
    store.fails_from = 3
    submit = make_submit(store)
    with pytest.raises(AirflowFailException, match="the reason"):
        run_attempt(submit, AirflowFailException("the reason"))


class Killed(BaseException):
    """The exception with which Airflow ends an attempt, such as AirflowTaskTimeout or AirflowTaskTerminated."""


@pytest.mark.parametrize("error", [Killed(), RuntimeError("the API server is unavailable")])
def test_failure_after_submit_without_store_is_not_retried(server, attempt, error):
    with pytest.raises(AirflowFailException, match=r"after MPS had accepted task task-1.*a clear submits again"):
        run_attempt(attempt(has_store=False), error)


def test_failure_before_submit_without_store_is_retried(server, attempt):
    with pytest.raises(RuntimeError), attempt(has_store=False).prevent_double_billing():
        raise RuntimeError("not yet")


def test_reconnect_first_attempt_returns_none(server, attempt):
    assert attempt().reconnect(HELLO) is None
    assert server.requests == []


def test_reconnect_changed_arguments_resubmits_and_logs_old_task(server, attempt, caplog):
    attempt().submit(HELLO)
    assert attempt(max_tries=MAX_TRIES_AFTER_CLEAR).reconnect(SpeechRequest("hello!", "voice-1")) is None
    assert "the arguments have changed" in caplog.text
    assert "the earlier task task-1 continues at MPS and may be billed" in caplog.text


def test_clear_with_same_arguments_reconnects(server, attempt):
    attempt().submit(HELLO)
    server.script = [make_status_reply("success")]
    assert attempt(max_tries=MAX_TRIES_AFTER_CLEAR).reconnect(HELLO).task_id == "task-1"


def test_missing_task_is_resubmitted_only_after_clear(server, attempt):
    attempt().submit(HELLO)
    server.script = [make_api_error("ResourceNotFound")]
    with pytest.raises(MpsPermanentError):
        attempt().reconnect(HELLO)
    assert attempt(max_tries=MAX_TRIES_AFTER_CLEAR).reconnect(HELLO) is None


def test_rejected_connection_does_not_resubmit(server, attempt):
    attempt().submit(HELLO)
    server.script = [make_api_error("AuthFailure.SecretIdNotFound")]
    with pytest.raises(MpsPermanentError):
        attempt(max_tries=MAX_TRIES_AFTER_CLEAR).reconnect(HELLO)


def test_submit_without_store_keeps_no_record(server, attempt, store):
    attempt(has_store=False).submit(HELLO)
    assert attempt(has_store=False).reconnect(HELLO) is None
    assert store.values == {}


# The outcome is unknown.

CONSOLE = (
    "Find out whether MPS has a task for it (task log, MPS console, Tencent's support): if so, pass its TaskId to a "
    "wait and a store task"
)


def count_sentences(error):
    return len(re.findall(r"\.(?: |$)", str(error)))


def record_killed_attempt(store):
    """Store the record of an attempt that was killed between the request and the response."""
    SubmitRecord.start(HELLO.fingerprint("mps_default", None), 0).save(store)


def test_attempt_killed_while_sending_is_not_resubmitted(server, attempt, store):
    record_killed_attempt(store)
    with pytest.raises(
        AirflowFailException,
        match=r"ended after \d{4}-.*unknown whether MPS accepted.*not submitted again.*billed twice.*clear the task",
    ) as caught:
        attempt().reconnect(HELLO)
    assert CONSOLE in str(caught.value)
    assert "or set on_unknown='resubmit' to submit again" in str(caught.value)
    assert count_sentences(caught.value) <= 3
    assert server.requests == []


def test_clear_resubmits_after_killed_attempt(server, attempt, store, caplog):
    record_killed_attempt(store)
    assert attempt(max_tries=MAX_TRIES_AFTER_CLEAR).reconnect(HELLO) is None
    assert "may be billed twice" in caplog.text


def test_on_unknown_resubmit_submits_after_killed_attempt(server, attempt, store, caplog):
    record_killed_attempt(store)
    assert attempt(OnUnknown.RESUBMIT).reconnect(HELLO) is None
    assert "may be billed twice" in caplog.text


def test_connection_reset_is_not_retried_and_names_sent_at(server, attempt):
    server.script = [RESET]
    with pytest.raises(
        AirflowFailException, match=r"sent at \d{4}-\d\d-\d\dT.*may already be billed.*is not retried"
    ) as caught:
        attempt().submit(HELLO)
    assert CONSOLE in str(caught.value)
    assert str(caught.value).endswith("if not, clear the task to submit it again.")
    assert len(server.requests) == 1
    with pytest.raises(AirflowFailException):
        attempt().reconnect(HELLO)
    assert len(server.requests) == 1


def test_unknown_outcome_names_request_id(server, attempt):
    server.script = [make_api_error("InternalError")]
    with pytest.raises(AirflowFailException, match=r"\(RequestId req-1\).*may already be billed"):
        attempt().submit(HELLO)


def test_on_unknown_resubmit_submits_in_next_attempt(server, attempt):
    server.script = [RESET]
    with pytest.raises(AirflowException, match="A retry submits it again, as on_unknown='resubmit' requests") as caught:
        attempt(OnUnknown.RESUBMIT).submit(HELLO)
    assert not isinstance(caught.value, AirflowFailException)
    assert len(server.requests) == 1
    assert attempt(OnUnknown.RESUBMIT).reconnect(HELLO) is None


def test_unknown_outcome_counts_with_changed_arguments(server, attempt, store):
    """A template such as {{ macros.datetime.now() }} renders differently in each attempt."""
    record_killed_attempt(store)
    with pytest.raises(AirflowFailException, match="unknown whether MPS accepted"):
        attempt().reconnect(SpeechRequest("hello at noon", "voice-1"))


def end_while_sending(submit, server):
    """End an attempt as Airflow does, while MPS has the request."""

    server.script = [ACCEPTED]
    execute = Client.execute
    with pytest.MonkeyPatch.context() as patch:

        def execute_and_end(client, call):
            execute(client, call)
            raise Killed

        patch.setattr(Client, "execute", execute_and_end)
        submit.submit(HELLO)


def test_attempt_ended_while_sending_is_not_retried_without_store(server, attempt):
    with pytest.raises(AirflowFailException, match="unknown whether MPS accepted"):
        end_while_sending(attempt(has_store=False), server)


def test_attempt_ended_while_sending_is_retried_with_resubmit(server, attempt):
    with pytest.raises(Killed):
        end_while_sending(attempt(OnUnknown.RESUBMIT, has_store=False), server)


def test_attempt_ended_while_sending_is_recorded_with_store(server, attempt):
    with pytest.raises(Killed):
        end_while_sending(attempt(), server)
    with pytest.raises(AirflowFailException, match="unknown whether MPS accepted"):
        attempt().reconnect(HELLO)


# Rejected submits leave no record.


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "AuthFailure.TokenFailure"])
def test_attempt_killed_after_rejection_leaves_no_record(server, attempt, store, monkeypatch, code):
    """The record of a rejected submit is deleted before the hook's backoff."""

    def kill(*_):
        raise Killed

    monkeypatch.setattr(MpsHook, "_refresh_credentials", kill)
    monkeypatch.setattr("tenacity.nap.time.sleep", kill)
    monkeypatch.setattr("airflow_provider_mps.api.retry.wait_random_exponential", lambda **_: wait_fixed(1))
    server.script = [make_api_error(code)]
    with pytest.raises(Killed):
        attempt().submit(HELLO)
    assert len(server.requests) == 1
    assert store.values == {}
    assert attempt().reconnect(HELLO) is None


def test_cancelled_attempt_sends_nothing(server, attempt, store):
    submit = attempt()
    submit.cancel()
    with pytest.raises(AirflowException, match="before the text was sent, so it was not submitted"):
        submit.submit(HELLO)
    assert server.requests == []
    assert store.values == {}


def test_attempt_cancelled_after_rejection_sends_nothing_more(server, attempt, store):
    def reject(_):
        submit.cancel()
        return make_api_error("RequestLimitExceeded")

    submit = attempt()
    server.script = [reject, ACCEPTED]
    with pytest.raises(AirflowException, match="was not submitted"):
        submit.submit(HELLO)
    assert len(server.requests) == 1
    assert store.values == {}


def test_each_request_is_recorded_with_its_time(server, attempt, store):
    def respond(_):
        sent_at.append(SubmitRecord.load(store).sent_at)
        return make_api_error("RequestLimitExceeded") if len(sent_at) < 3 else ACCEPTED

    sent_at = []
    server.script = [respond, respond, respond]
    assert attempt().submit(HELLO) == "task-1"
    assert SubmitRecord.load(store).sent_at == sent_at[2]


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "InvalidParameterValue", "FailedOperation.UserArrears"])
def test_rejected_submit_leaves_no_record(server, attempt, store, code):
    server.script = [make_api_error(code)]
    with pytest.raises(MpsApiError):
        attempt().submit(HELLO)
    assert store.values == {}


def test_unsent_submit_leaves_no_record(connect, attempt, store):
    connect("tencent-mps://id:key@127.0.0.1:1/http?timeout=1")
    with pytest.raises(MpsApiError):
        attempt().submit(HELLO)
    assert store.values == {}


def test_invalid_connection_leaves_no_record(attempt, store):
    with pytest.raises(InvalidMpsConnectionError):
        attempt().submit(HELLO)
    assert store.values == {}


# Airflow's task state store fails.


class FailingStore(MemoryStore):
    fails_from = 1
    writes = 0

    def set(self, key, value):
        self.writes += 1
        if self.writes >= self.fails_from:
            raise RuntimeError("the API server is unavailable")
        super().set(key, value)

    def delete(self, key):
        raise RuntimeError("the API server is unavailable")


def test_store_failure_before_request_sends_nothing(server):
    with pytest.raises(RuntimeError):
        make_submit(FailingStore()).submit(HELLO)
    assert server.requests == []


def test_store_failure_after_submit_logs_and_returns_task_id(server, caplog):
    store = FailingStore()
    store.fails_from = 2
    assert make_submit(store).submit(HELLO) == "task-1"
    assert "MPS accepted task task-1, but Airflow could not store its id" in caplog.text
    with pytest.raises(AirflowFailException):  # the outcome counts as unknown
        make_submit(store).reconnect(HELLO)


def test_store_failure_after_rejection_raises_api_error(server):
    store = FailingStore()
    store.fails_from = 2
    server.script = [make_api_error("InvalidParameterValue")]
    with pytest.raises(MpsPermanentError):
        make_submit(store).submit(HELLO)


@pytest.mark.parametrize(
    ("script", "pending_description"),
    [([ACCEPTED], "Task task-1"), ([RESET], "The text sent at"), ([make_api_error("InvalidParameterValue")], None)],
)
def test_pending_description_names_task_or_sent_at(server, attempt, script, pending_description):
    server.script = script
    submit = attempt()
    with suppress(AirflowException):
        submit.submit(HELLO)
    assert submit.pending_description is pending_description or submit.pending_description.startswith(
        pending_description
    )


def test_failed_connection_lookup_leaves_no_record(attempt, store, server, monkeypatch):
    with monkeypatch.context() as patched:

        def fail(*_):
            raise RuntimeError("the secrets backend is unavailable")

        patched.setattr(MpsHook, "get_mps_connection", fail)
        with pytest.raises(RuntimeError):
            attempt().submit(HELLO)
    assert store.get(STATE_KEY) is None
    assert attempt().reconnect(HELLO) is None
    assert attempt().submit(HELLO) == "task-1"
