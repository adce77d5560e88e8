from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mps.durable.clone import STATE_KEY
from airflow_provider_mps.exceptions import AudioTransferError, InvalidRequestError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.voices import CloneVoiceOperator
from tests.scripted_server import ScriptedServer, make_api_error, make_json_reply
from tests.state_store import MemoryStore
from tests.voices import IF_EXISTS, SAMPLE, LosingEmulator, list_names, make_context

pytestmark = pytest.mark.usefixtures("no_waiting")
NO_VOICES = make_json_reply({"Response": {"ErrorCode": 0, "TotalCount": 0, "Voices": [], "RequestId": "req-1"}})


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def clone(tmp_path):
    """Run one attempt of an operator that clones a voice, and return the VoiceId."""
    (tmp_path / "sample.wav").write_bytes(SAMPLE)

    def run(context, **arguments):
        operator = make(**arguments)
        return operator.execute(context)

    def make(**arguments):
        return CloneVoiceOperator(
            task_id="clone", **{"audio": f"file://{tmp_path}/sample.wav", "name": "Anna", **arguments}
        )

    run.make = make
    return run


@pytest.fixture
def quick_search(monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.durable.clone.SEARCH_INTERVAL_SECONDS", 0.05)


@pytest.fixture
def single_look(monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.durable.clone.GRACE_SECONDS", 0.0)


@pytest.fixture
def start_losing(start_emulator):
    """Start an emulator whose responses are lost."""

    def start(*arguments, **more):
        app = LosingEmulator(*arguments, **more)
        start_emulator(app)
        return app

    return start


def test_clone_returns_and_pushes_voice_id(emulator, clone):
    context = make_context()
    voice_id = clone(context, gender="female", languages="en, de")
    voice = MpsHook().get_voice(voice_id)
    assert (voice.name, voice.gender, voice.languages) == ("Anna", "female", ("en", "de"))
    assert context["ti"].xcoms == {"VoiceId": voice_id}


def test_trial_text_pushes_masked_url(emulator, clone, monkeypatch):
    masked, context = [], make_context()
    monkeypatch.setattr("airflow_provider_mps.redaction.mask_secret", masked.append)
    clone(context, trial_text="Hello.")
    assert set(context["ti"].xcoms) == {"VoiceId", "AudioUrl"}
    assert context["ti"].xcoms["AudioUrl"].partition("?")[2] in masked


def test_trial_destination_stores_audio(emulator, clone, tmp_path):
    context = make_context()
    operator = clone.make(trial_text="Hello.", trial_destination=f"file://{tmp_path}/trial/")
    operator.execute(context)
    xcoms = context["ti"].xcoms
    assert xcoms["duration"] > 0
    (file,) = (tmp_path / "trial").iterdir()
    assert xcoms["trial_audio"] == f"file://{file}" == str(operator.stored_at)
    assert file.read_bytes().startswith(b"RIFF")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "name"),
        ({"audio": ""}, "audio is empty"),
        ({"gender": "robot"}, "gender must be one of"),
        ({"trial_text": "x" * 501}, "trial_text has 501 characters"),
        ({"trial_destination": "s3://bucket/trial.wav"}, "without trial_text"),
        ({"trial_destination": "trial.wav", "trial_text": "Hello."}, "destination must be an absolute"),
        ({"transfer_timeout": 0}, "transfer_timeout"),
    ],
)
def test_invalid_argument_fails_before_any_call(connect, clone, arguments, message):
    with ScriptedServer(NO_VOICES) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match=message):
            clone(make_context(), **arguments)
        assert server.requests == []


def test_sample_that_is_not_audio_fails_before_any_call(connect, clone, tmp_path):
    (tmp_path / "sample.wav").write_text("no audio")
    with ScriptedServer(NO_VOICES) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match="has no known audio format"):
            clone(make_context())
        assert server.requests == []


def test_reuse_returns_existing_clone(emulator, clone):
    existing = MpsHook().clone_voice(SAMPLE, "Anna")
    MpsHook().clone_voice(SAMPLE, "Annabel")
    assert clone(make_context()) == existing
    assert list_names() == ["Anna", "Annabel"]


def test_reuse_does_not_return_designed_voice(emulator, clone):
    hook = MpsHook()
    task_id = hook.submit_voice_design("deep", "Anna")
    while not hook.describe_voice_design(task_id).is_done:
        pass
    assert clone(make_context()) != hook.describe_voice_design(task_id).voice_id
    assert list_names("all").count("Anna") == 2


@pytest.mark.parametrize(("if_exists", "count"), [("reuse", 2), ("fail", 1), ("fail", 2)])
def test_existing_clones_that_are_not_allowed_are_listed(emulator, clone, if_exists, count):
    existing = [MpsHook().clone_voice(SAMPLE, "Anna") for _ in range(count)]
    with pytest.raises(InvalidRequestError) as caught:
        clone(make_context(), if_exists=if_exists)
    assert all(voice_id in str(caught.value) for voice_id in existing)
    assert len(list_names()) == count


def test_create_makes_another_clone(emulator, clone):
    existing = MpsHook().clone_voice(SAMPLE, "Anna")
    assert clone(make_context(), if_exists="create") != existing
    assert list_names() == ["Anna", "Anna"]


def test_reused_voice_without_trial_audio_warns_and_succeeds(emulator, clone, tmp_path, capsys):
    existing = MpsHook().clone_voice(SAMPLE, "Anna")
    context = make_context()
    assert clone(context, trial_text="Hello.", trial_destination=f"file://{tmp_path}/trial/") == existing
    assert "no trial audio" in capsys.readouterr().out
    assert context["ti"].xcoms == {"VoiceId": existing}


# Retries and clears.


@pytest.mark.parametrize("if_exists", IF_EXISTS)
def test_retry_after_success_returns_same_voice(emulator, clone, store, if_exists):
    first = clone(make_context(store), if_exists=if_exists)
    assert clone(make_context(store), if_exists=if_exists) == first
    assert list_names() == ["Anna"]


def test_clear_with_create_makes_another(emulator, clone, store):
    first = clone(make_context(store), if_exists="create")
    assert clone(make_context(store, max_tries=1), if_exists="create") != first
    assert list_names() == ["Anna", "Anna"]


@pytest.mark.usefixtures("quick_search")
@pytest.mark.parametrize("if_exists", IF_EXISTS)
def test_retry_waits_for_recorded_voice_that_is_listed_late(emulator, clone, store, monkeypatch, if_exists):
    first = clone(make_context(store), if_exists=if_exists)
    list_voices, late = MpsHook._list_voices, [3]

    def list_late(hook, *arguments, **filters):
        late[0] -= 1
        return [] if late[0] >= 0 else list_voices(hook, *arguments, **filters)

    monkeypatch.setattr(MpsHook, "_list_voices", list_late)
    assert clone(make_context(store, try_number=1), if_exists=if_exists) == first
    assert list_names() == ["Anna"]


def test_clear_after_deletion_creates_again(emulator, clone, store):
    first = clone(make_context(store))
    MpsHook().delete_voice(first)
    assert clone(make_context(store, max_tries=1)) != first
    assert list_names() == ["Anna"]


def test_changed_arguments_create_another_voice(emulator, clone, store, capsys):
    first = clone(make_context(store))
    assert clone(make_context(store), name="Bob") != first
    assert first in capsys.readouterr().out
    assert list_names() == ["Anna", "Bob"]


@pytest.mark.usefixtures("quick_search")
@pytest.mark.parametrize("if_exists", IF_EXISTS)
@pytest.mark.parametrize("delay", [0, 2])
def test_lost_response_voice_is_found_in_same_attempt(start_losing, clone, if_exists, delay):
    app = start_losing("CloneVoice", delay)
    voice_id = clone(make_context(), if_exists=if_exists)
    assert [voice.voice_id for voice in MpsHook().list_voices("clone")] == [voice_id]
    assert app.actions.count("CloneVoice") == 1


@pytest.mark.usefixtures("quick_search")
def test_lost_response_finds_the_new_one_of_several(start_losing, clone):
    app = start_losing("CloneVoice", losses=0)
    existing = [MpsHook().clone_voice(SAMPLE, "Anna") for _ in range(2)]
    app.losses = 1
    assert clone(make_context(), if_exists="create") not in existing
    assert list_names() == ["Anna"] * 3


@pytest.mark.usefixtures("single_look")
@pytest.mark.parametrize("if_exists", IF_EXISTS)
def test_voice_that_never_appears_is_created_by_retry(start_losing, clone, store, if_exists):
    start_losing("CloneVoice", None)
    with pytest.raises(AirflowException, match="No new voice named 'Anna' appeared") as caught:
        clone(make_context(store), if_exists=if_exists)
    assert not isinstance(caught.value, AirflowFailException)
    voice_id = clone(make_context(store), if_exists=if_exists)
    assert [voice.voice_id for voice in MpsHook().list_voices("clone")] == [voice_id]


class Killed(BaseException):
    """Ends an attempt at once, as SIGKILL does: nothing is cleaned up."""


@pytest.mark.usefixtures("single_look")
@pytest.mark.parametrize("if_exists", IF_EXISTS)
@pytest.mark.parametrize("created", [True, False])
def test_killed_attempt_is_continued_by_retry(emulator, clone, store, monkeypatch, if_exists, created):
    create = MpsHook.create_clone

    def create_and_die(hook, request):
        if not created:
            with hook.submit_attempt():
                raise Killed
        create(hook, request)
        raise Killed

    monkeypatch.setattr(MpsHook, "create_clone", create_and_die)
    with pytest.raises(Killed):
        clone(make_context(store), if_exists=if_exists)
    monkeypatch.setattr(MpsHook, "create_clone", create)
    assert len(list_names()) == created
    voice_id = clone(make_context(store), if_exists=if_exists)
    assert [voice.voice_id for voice in MpsHook().list_voices("clone")] == [voice_id]


def test_limit_of_voices_is_not_retried_and_leaves_no_record(start_emulator, clone, store):
    start_emulator(rate_limit=1000)
    for number in range(100):
        MpsHook().clone_voice(SAMPLE, f"voice {number}")
    with pytest.raises(MpsPermanentError, match="delete unused voices"):
        clone(make_context(store))
    assert store.values == {}


def test_rejected_request_keeps_earlier_record(emulator, clone, store, connect, monkeypatch):
    clone(make_context(store))
    before = store.get(STATE_KEY)
    with ScriptedServer(NO_VOICES, make_api_error("InvalidParameterValue")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError):
            clone(make_context(store), name="Bob")
    assert store.get(STATE_KEY) == {**before, "has_ended": True}


def test_failed_trial_is_retried_with_the_same_voice(emulator, clone, store, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise AudioTransferError("not this time.")

    arguments = {"trial_text": "Hello.", "trial_destination": f"file://{tmp_path}/trial.wav", "if_exists": "create"}
    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_mps.storage.transfer.store_audio", fail)
        with pytest.raises(AudioTransferError):
            clone(make_context(store), **arguments)
        with pytest.raises(AirflowFailException, match="not retried, because Airflow has no record"):
            clone(make_context(), **arguments)  # without a store, a retry would make another
    clone(make_context(store), **arguments)
    assert list_names() == ["Anna", "Anna"]
    assert (tmp_path / "trial.wav").exists()


def test_without_store_only_reuse_is_idempotent_and_log_says_so(emulator, clone, capsys):
    assert clone(make_context()) == clone(make_context())
    assert "no task state store" not in capsys.readouterr().out
    clone(make_context(), if_exists="create")
    assert "no task state store" in capsys.readouterr().out


@pytest.mark.usefixtures("quick_search")
def test_retry_without_store_waits_for_voice_of_killed_attempt(start_losing, clone, monkeypatch):
    start_losing("CloneVoice", 3)  # MPS makes the voice a little later
    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_mps.durable.clone.GRACE_SECONDS", 0.0)
        with pytest.raises(AirflowException):
            clone(make_context())
    assert list_names() == []
    clone(make_context(try_number=2, max_tries=1))
    assert list_names() == ["Anna"]


def test_retry_without_store_does_not_wait_after_long_retry_delay(emulator, clone, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waits"))
    task = SimpleNamespace(retry_delay=timedelta(minutes=5))
    clone({**make_context(try_number=2, max_tries=1), "task": task})
    assert list_names() == ["Anna"]


def test_signed_url_of_sample_is_masked_when_rendered(clone, monkeypatch):
    masked = []
    monkeypatch.setattr("airflow_provider_mps.redaction.mask_secret", masked.append)
    operator = clone.make(audio="https://b.cos.example.com/a.wav?sign={{ signature }}")
    operator.render_template_fields({"signature": "abc"})
    assert masked == ["sign=abc"]


def test_durable_false_keeps_no_record(emulator, clone, store):
    clone(make_context(store), durable=False)
    assert store.values == {}


def test_on_kill_before_request_sends_nothing(emulator, clone, store, monkeypatch):
    operator = clone.make()
    list_voices = MpsHook.list_voices

    def list_and_kill(hook, *arguments, **filters):
        operator.on_kill()
        return list_voices(hook, *arguments, **filters)

    with monkeypatch.context() as patch:
        patch.setattr(MpsHook, "list_voices", list_and_kill)
        with pytest.raises(AirflowException, match="Airflow ended this attempt"):
            operator.execute(make_context(store))
    assert list_names() == []
    assert store.values == {}


def test_on_kill_after_clone_logs_voice_id(emulator, clone, store, capsys):
    operator = clone.make()
    voice_id = operator.execute(make_context(store))
    capsys.readouterr()
    operator.on_kill()
    assert f"MPS has made voice {voice_id}" in capsys.readouterr().out


@pytest.mark.usefixtures("quick_search")
def test_listing_errors_do_not_end_the_search(start_losing, clone, monkeypatch, capsys):
    app = start_losing("CloneVoice", 0)
    handle, gateway_errors = LosingEmulator.__call__, [5]

    async def fail_some(self, scope, receive, send):
        headers = dict(scope.get("headers", ()))
        if "CloneVoice" in self.actions and headers.get(b"x-tc-action") == b"DescribeVoices" and gateway_errors[0]:
            gateway_errors[0] -= 1
            await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        await handle(self, scope, receive, send)

    monkeypatch.setattr(LosingEmulator, "__call__", fail_some)
    clone(make_context())
    assert "Listing the clones named 'Anna' failed, will retry" in capsys.readouterr().out
    assert app.actions.count("CloneVoice") == 1
