import pytest

from airflow_provider_mps.exceptions import InvalidRequestError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.voices import DeleteVoiceOperator
from tests.scripted_server import ScriptedServer, make_api_error, make_json_reply
from tests.voices import SAMPLE, list_names, make_context

pytestmark = pytest.mark.usefixtures("no_waiting")


def delete(**arguments):
    return DeleteVoiceOperator(task_id="delete", **arguments).execute(make_context())


def make_page(*voices):
    response = {"ErrorCode": 0, "TotalCount": len(voices), "Voices": voices, "RequestId": "req-1"}
    return make_json_reply({"Response": response})


@pytest.mark.parametrize("by", ["id", "name"])
def test_delete_returns_id_and_repeat_is_success(emulator, by):
    voice_id = MpsHook().clone_voice(SAMPLE, "Anna")
    MpsHook().clone_voice(SAMPLE, "Annabel")
    arguments = {"voice_id": voice_id} if by == "id" else {"voice_name": "Anna"}
    assert delete(**arguments) == voice_id
    assert list_names() == ["Annabel"]
    assert delete(**arguments) is None


def test_delete_own_voice_named_like_system_voice_succeeds(emulator):
    voice_id = MpsHook().clone_voice(SAMPLE, "Amy")
    assert delete(voice_name="Amy") == voice_id
    assert list_names() == []


@pytest.mark.parametrize("argument", ["voice_id", "voice_name"])
@pytest.mark.parametrize("missing", ["", " ", "None"])
def test_result_of_failed_setup_is_success_without_call(connect, argument, missing, capsys):
    with ScriptedServer(make_page()) as server:
        connect(server.connection_uri())
        assert delete(**{argument: missing}) is None
        assert server.requests == []
    assert "nothing to delete" in capsys.readouterr().out


def test_argument_that_renders_to_none_is_success():
    operator = DeleteVoiceOperator(task_id="delete", voice_id="{{ a_template }}")
    operator.voice_id = None
    assert operator.execute(make_context()) is None


@pytest.mark.parametrize("arguments", [{}, {"voice_id": "v-1", "voice_name": "Anna"}])
def test_not_exactly_one_argument_is_an_error(arguments):
    with pytest.raises(InvalidRequestError, match="nothing was deleted"):
        delete(**arguments)


@pytest.mark.parametrize("arguments", [{"voice_id": "emulator-amy"}, {"voice_name": "Amy"}])
def test_system_voice_is_refused_before_delete(start_emulator, arguments):
    from tests.faulty_emulator import FaultyEmulator, Options

    app = FaultyEmulator(Options())
    start_emulator(app)
    with pytest.raises(InvalidRequestError, match="is one of Tencent"):
        delete(**arguments)
    assert "DeleteVoice" not in app.actions


def test_ambiguous_name_deletes_nothing(emulator):
    ids = [MpsHook().clone_voice(SAMPLE, "Anna") for _ in range(2)]
    with pytest.raises(InvalidRequestError, match="2 voices are named") as caught:
        delete(voice_name="Anna")
    assert all(voice_id in str(caught.value) for voice_id in ids)
    assert list_names() == ["Anna", "Anna"]


@pytest.mark.parametrize("is_gone", [True, False])
def test_rejected_delete_is_success_only_if_voice_is_gone(connect, is_gone):
    voice = make_page({"VoiceId": "v-1", "Name": "Anna", "Category": "clone"})
    with ScriptedServer(voice, make_api_error("ResourceNotFound"), make_page() if is_gone else voice) as server:
        connect(server.connection_uri())
        if is_gone:
            assert delete(voice_id="v-1") == "v-1"
        else:
            with pytest.raises(MpsPermanentError):
                delete(voice_id="v-1")
        actions = [request.headers["x-tc-action"] for request in server.requests]
    assert actions == ["DescribeVoices", "DeleteVoice", "DescribeVoices"]
