import logging
from contextlib import suppress

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred
from tenacity import wait_fixed

from airflow_provider_mps.choice import OnUnknown
from airflow_provider_mps.durable_submit import DurableSubmit
from airflow_provider_mps.errors import (
    InvalidMpsConnectionError,
    MpsApiError,
    MpsPermanentError,
    TextToSpeechTaskFailed,
)
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.speech_request import SpeechRequest
from airflow_provider_mps.submission import KEY, Submission
from tests.answers import ACCEPTED
from tests.scripted_server import RESET, ScriptedServer, api_error, json_reply
from tests.state_store import MemoryStore

pytestmark = pytest.mark.usefixtures("no_waiting")
HELLO = SpeechRequest("hello", "voice-1")
LATER = 1
"""What a clear adds to the tries."""


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def attempt(store):
    """One try of a task: its DurableSubmit."""

    def make(on_unknown=OnUnknown.FAIL, max_tries=0, keeps=True):
        return DurableSubmit(MpsHook(), store if keeps else None, max_tries, on_unknown, logging.getLogger("attempt"))

    return make


@pytest.fixture
def server(connect):
    """A server whose script a test sets."""
    with ScriptedServer(ACCEPTED) as server:
        connect(server.connection_uri())
        yield server


def run(submit, error=None):
    """Do what the operator does in one attempt, and end it with an error."""
    with submit.concluded():
        if submit.reconnect(HELLO) is None:
            submit.submit(HELLO)
        if error is not None:
            raise error


def status(name, **more):
    return json_reply({"Response": {"Status": name, "RequestId": "req-2", **more}})


def actions(server):
    return [request.headers["x-tc-action"] for request in server.requests]


def test_the_id_is_remembered_as_soon_as_it_is_known(server, attempt, store):
    assert attempt().submit(HELLO) == "task-1"
    assert Submission.recalled(store).task_id == "task-1"


def test_that_it_begins_is_remembered_before_anything_is_sent(server, attempt, store):
    def answer(_):
        remembered.append(Submission.recalled(store))
        return ACCEPTED

    remembered = []
    server.script = [answer]
    attempt().submit(HELLO)
    assert [submission.task_id for submission in remembered] == [None]


@pytest.mark.parametrize("name", ["processing", "success"])
def test_another_try_goes_on_with_the_task_and_says_so(server, attempt, name, caplog):
    caplog.set_level(logging.INFO)
    attempt().submit(HELLO)
    server.script = [status(name)]
    assert attempt().reconnect(HELLO).task_id == "task-1"
    assert actions(server) == ["TextToSpeechAsync", "DescribeTextToSpeechAsyncTask"]
    assert "Reconnected to task task-1" in caplog.text
    assert "req-2" in caplog.text


def test_retry_does_not_resubmit_what_mps_failed(server, attempt):
    attempt().submit(HELLO)
    server.script = [status("fail", ErrorCode=110, Msg="no such word")]
    for _ in range(3):
        with pytest.raises(TextToSpeechTaskFailed, match="no such word"):
            attempt(max_tries=0).reconnect(HELLO)
    assert actions(server).count("TextToSpeechAsync") == 1


def test_clear_resubmits_what_mps_failed(server, attempt, caplog):
    attempt().submit(HELLO)
    server.script = [status("fail", ErrorCode=110, Msg="no such word")]
    assert attempt(max_tries=LATER).reconnect(HELLO) is None
    assert "Submitting again: MPS has failed task task-1" in caplog.text
    assert "no such word" in caplog.text


def test_retry_after_a_clear_does_not_resubmit(server, attempt):
    attempt().submit(HELLO)
    server.script = [status("processing")]
    assert attempt(max_tries=LATER).reconnect(HELLO).task_id == "task-1"
    server.script = [status("fail")]
    with pytest.raises(TextToSpeechTaskFailed):
        attempt(max_tries=LATER).reconnect(HELLO)


def test_clear_after_lowered_retries_resubmits(server, attempt):
    """Airflow's max_tries may then be what it was: that only a clear can follow is stored."""
    attempt().submit(HELLO)
    server.script = [status("fail")]
    with pytest.raises(TextToSpeechTaskFailed):
        run(attempt())
    assert attempt().reconnect(HELLO) is None


@pytest.mark.parametrize("ends", ["unknown", "given up"])
def test_clear_is_recognised_after_each_final_end(server, attempt, store, ends):
    if ends == "given up":
        killed_while_sending(attempt, store)
    server.script = [RESET]
    with pytest.raises(AirflowFailException):
        run(attempt())
    assert Submission.recalled(store).has_ended


def test_retry_after_success_does_not_resubmit(server, attempt):
    """Airflow pushes the XCom when the operator has returned, and retries if that fails."""
    run(attempt())
    server.script = [status("fail")]
    with pytest.raises(TextToSpeechTaskFailed):
        run(attempt(max_tries=0))


def test_rejected_submit_does_not_forget_an_earlier_task(server, attempt, store):
    run(attempt())
    server.script = [api_error("InvalidParameterValue")]
    with pytest.raises(MpsPermanentError):
        attempt(max_tries=LATER).submit(SpeechRequest("other", "voice-1"))
    server.script = [status("success")]
    assert attempt(max_tries=LATER).reconnect(HELLO).task_id == "task-1"


@pytest.mark.parametrize("error", [AirflowException("later"), TaskDeferred(trigger=None, method_name="m")])
def test_an_attempt_that_may_be_retried_has_not_ended(server, attempt, store, error):
    with pytest.raises(type(error)):
        run(attempt(), error)
    assert not Submission.recalled(store).has_ended


def test_store_that_fails_at_the_end_hides_no_error(server):
    store = Failing()
    store.fails_from = 3
    submit = DurableSubmit(MpsHook(), store, 0, OnUnknown.FAIL, logging.getLogger("attempt"))
    with pytest.raises(AirflowFailException, match="the reason"):
        run(submit, AirflowFailException("the reason"))


class Killed(BaseException):
    """Airflow ends an attempt: AirflowTaskTimeout and AirflowTaskTerminated are such exceptions."""


@pytest.mark.parametrize("error", [Killed(), RuntimeError("the API server is away")])
def test_no_retry_follows_an_accepted_text_without_store(server, attempt, error):
    with pytest.raises(AirflowFailException, match=r"after MPS had accepted task task-1.*a clear submits again"):
        run(attempt(keeps=False), error)


def test_retry_follows_an_error_before_anything_was_accepted(server, attempt):
    with pytest.raises(RuntimeError), attempt(keeps=False).concluded():
        raise RuntimeError("not yet")


def test_there_is_nothing_to_go_on_with_at_first(server, attempt):
    assert attempt().reconnect(HELLO) is None
    assert server.requests == []


def test_changed_arguments_are_submitted_anew_and_the_task_of_the_old_ones_is_named(server, attempt, caplog):
    attempt().submit(HELLO)
    assert attempt(max_tries=LATER).reconnect(SpeechRequest("hello!", "voice-1")) is None
    assert "the arguments have changed" in caplog.text
    assert "task-1 goes on at MPS, and may be billed" in caplog.text


def test_a_clear_with_the_same_arguments_goes_on_with_the_same_task(server, attempt):
    attempt().submit(HELLO)
    server.script = [status("success")]
    assert attempt(max_tries=LATER).reconnect(HELLO).task_id == "task-1"


def test_a_task_that_mps_no_longer_knows_is_submitted_anew_after_a_clear_and_never_by_a_retry(server, attempt):
    attempt().submit(HELLO)
    server.script = [api_error("ResourceNotFound")]
    with pytest.raises(MpsPermanentError):
        attempt().reconnect(HELLO)
    assert attempt(max_tries=LATER).reconnect(HELLO) is None


def test_a_connection_that_is_refused_is_no_reason_to_submit_anew(server, attempt):
    attempt().submit(HELLO)
    server.script = [api_error("AuthFailure.SecretIdNotFound")]
    with pytest.raises(MpsPermanentError):
        attempt(max_tries=LATER).reconnect(HELLO)


def test_without_a_store_nothing_is_remembered(server, attempt, store):
    attempt(keeps=False).submit(HELLO)
    assert attempt(keeps=False).reconnect(HELLO) is None
    assert store.kept == {}


# What became of it is unknown.


def killed_while_sending(attempt, store):
    """Leave what a try leaves that is killed between sending and the answer."""
    Submission.beginning(HELLO.fingerprint("mps_default", None), 0).remember(store)


def test_a_try_that_was_killed_while_sending_is_not_repeated(server, attempt, store):
    killed_while_sending(attempt, store)
    with pytest.raises(AirflowFailException, match=r"ended after \d{4}-.*unknown whether MPS accepted.*clear the task"):
        attempt().reconnect(HELLO)
    assert server.requests == []


def test_a_clear_submits_what_a_killed_try_may_have_sent(server, attempt, store, caplog):
    killed_while_sending(attempt, store)
    assert attempt(max_tries=LATER).reconnect(HELLO) is None
    assert "may be billed twice" in caplog.text


def test_who_chooses_to_resubmit_does(server, attempt, store, caplog):
    killed_while_sending(attempt, store)
    assert attempt(OnUnknown.RESUBMIT).reconnect(HELLO) is None
    assert "may be billed twice" in caplog.text


def test_a_reset_after_sending_is_not_repeated_by_any_retry_and_told_with_its_time(server, attempt):
    server.script = [RESET]
    with pytest.raises(AirflowFailException, match=r"sent at \d{4}-\d\d-\d\dT.*may be billed already.*no retry will"):
        attempt().submit(HELLO)
    assert len(server.requests) == 1
    with pytest.raises(AirflowFailException):
        attempt().reconnect(HELLO)
    assert len(server.requests) == 1


def test_an_unknown_outcome_is_told_with_the_request_id_that_there_is(server, attempt):
    server.script = [api_error("InternalError")]
    with pytest.raises(AirflowFailException, match=r"\(RequestId req-1\): it may be billed"):
        attempt().submit(HELLO)


def test_who_chooses_to_resubmit_leaves_it_to_a_retry_and_not_to_this_try(server, attempt):
    server.script = [RESET]
    with pytest.raises(AirflowException, match="a retry does, as on_unknown='resubmit' says") as caught:
        attempt(OnUnknown.RESUBMIT).submit(HELLO)
    assert not isinstance(caught.value, AirflowFailException)
    assert len(server.requests) == 1
    assert attempt(OnUnknown.RESUBMIT).reconnect(HELLO) is None


def test_unknown_outcome_counts_whatever_the_arguments_are(server, attempt, store):
    """A template such as {{ now }} renders differently in each attempt."""
    killed_while_sending(attempt, store)
    with pytest.raises(AirflowFailException, match="unknown whether MPS accepted"):
        attempt().reconnect(SpeechRequest("hello at noon", "voice-1"))


def end_while_sending(submit, server):
    """Let Airflow end an attempt while MPS has the request."""

    server.script = [ACCEPTED]
    call = MpsHook._call_once
    with pytest.MonkeyPatch.context() as patch:

        def call_and_end(hook, request):
            call(hook, request)
            raise Killed

        patch.setattr(MpsHook, "_call_once", call_and_end)
        submit.submit(HELLO)


def test_attempt_ended_while_sending_is_not_retried_without_store(server, attempt):
    with pytest.raises(AirflowFailException, match="unknown whether MPS accepted"):
        end_while_sending(attempt(keeps=False), server)


def test_attempt_ended_while_sending_may_be_resubmitted_by_choice(server, attempt):
    with pytest.raises(Killed):
        end_while_sending(attempt(OnUnknown.RESUBMIT, keeps=False), server)


def test_attempt_ended_while_sending_is_recorded_with_store(server, attempt):
    with pytest.raises(Killed):
        end_while_sending(attempt(), server)
    with pytest.raises(AirflowFailException, match="unknown whether MPS accepted"):
        attempt().reconnect(HELLO)


# What was not accepted is forgotten.


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "AuthFailure.TokenFailure"])
def test_attempt_killed_after_a_rejection_has_sent_nothing(server, attempt, store, monkeypatch, code):
    """A rejected submit was provably not accepted, also if the attempt ends during the hook's backoff."""

    def kill(*_):
        raise Killed

    monkeypatch.setattr(MpsHook, "_renew", kill)
    monkeypatch.setattr("tenacity.nap.time.sleep", kill)
    monkeypatch.setattr("airflow_provider_mps.call_retries.wait_random_exponential", lambda **_: wait_fixed(1))
    server.script = [api_error(code)]
    with pytest.raises(Killed):
        attempt().submit(HELLO)
    assert len(server.requests) == 1
    assert store.kept == {}
    assert attempt().reconnect(HELLO) is None


def test_every_request_is_recorded_with_its_own_time(server, attempt, store):
    def answer(_):
        sent_at.append(Submission.recalled(store).sent_at)
        return api_error("RequestLimitExceeded") if len(sent_at) < 3 else ACCEPTED

    sent_at = []
    server.script = [answer, answer, answer]
    assert attempt().submit(HELLO) == "task-1"
    assert Submission.recalled(store).sent_at == sent_at[2]


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "InvalidParameterValue", "FailedOperation.UserArrears"])
def test_what_mps_refused_may_be_submitted_by_a_retry(server, attempt, store, code):
    server.script = [api_error(code)]
    with pytest.raises(MpsApiError):
        attempt().submit(HELLO)
    assert store.kept == {}


def test_what_could_not_be_sent_may_be_submitted_by_a_retry(connect, attempt, store):
    connect("tencent-mps://id:key@127.0.0.1:1/http?timeout=1")
    with pytest.raises(MpsApiError):
        attempt().submit(HELLO)
    assert store.kept == {}


def test_a_connection_that_must_be_mended_leaves_nothing_behind(attempt, store):
    with pytest.raises(InvalidMpsConnectionError):
        attempt().submit(HELLO)
    assert store.kept == {}


# Airflow's store may fail, too.


class Failing(MemoryStore):
    fails_from = 1
    writes = 0

    def set(self, key, value):
        self.writes += 1
        if self.writes >= self.fails_from:
            raise RuntimeError("the API server is gone")
        super().set(key, value)

    def delete(self, key):
        raise RuntimeError("the API server is gone")


def test_nothing_is_sent_where_it_cannot_be_remembered_that_it_begins(server):
    with pytest.raises(RuntimeError):
        DurableSubmit(MpsHook(), Failing(), 0, OnUnknown.FAIL, logging.getLogger("attempt")).submit(HELLO)
    assert server.requests == []


def test_an_id_that_cannot_be_stored_is_logged_and_returned(server, caplog):
    store = Failing()
    store.fails_from = 2
    assert DurableSubmit(MpsHook(), store, 0, OnUnknown.FAIL, logging.getLogger("attempt")).submit(HELLO) == "task-1"
    assert "task-1 was accepted, but Airflow could not store its id" in caplog.text
    with pytest.raises(AirflowFailException):  # the safe side
        DurableSubmit(MpsHook(), store, 0, OnUnknown.FAIL, logging.getLogger("attempt")).reconnect(HELLO)


def test_what_mps_said_is_raised_even_where_airflow_cannot_forget(server):
    store = Failing()
    store.fails_from = 2
    server.script = [api_error("InvalidParameterValue")]
    with pytest.raises(MpsPermanentError):
        DurableSubmit(MpsHook(), store, 0, OnUnknown.FAIL, logging.getLogger("attempt")).submit(HELLO)


@pytest.mark.parametrize(
    ("script", "goes_on"),
    [([ACCEPTED], "Task task-1"), ([RESET], "What was sent at"), ([api_error("InvalidParameterValue")], None)],
)
def test_what_goes_on_at_mps_can_be_told(server, attempt, script, goes_on):
    server.script = script
    submit = attempt()
    with suppress(AirflowException):
        submit.submit(HELLO)
    assert submit.goes_on is goes_on or submit.goes_on.startswith(goes_on)


def test_a_look_up_that_fails_leaves_nothing_that_would_stop_a_retry(attempt, store, server, monkeypatch):
    with monkeypatch.context() as patched:

        def fail(*_):
            raise RuntimeError("the secrets backend is away")

        patched.setattr(MpsHook, "look_up", fail)
        with pytest.raises(RuntimeError):
            attempt().submit(HELLO)
    assert store.get(KEY) is None
    assert attempt().reconnect(HELLO) is None
    assert attempt().submit(HELLO) == "task-1"
