"""Run the DAG of docs/voice-id.md against a server that sends a response of the documented form."""

import json
import os
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, read_blocks
from tests.scripted_server import ScriptedServer, make_api_error, make_json_reply

PAGE = DOCS / "voice-id.md"
VOICES = [
    {
        "VoiceId": "v1_anna",
        "Name": "Anna",
        "Description": "A calm voice",
        "Category": "system",
        "Gender": "famale",
        "Age": "youth",
        "Languages": ["en", "de"],
        "AudioUrl": "https://audio.example/anna.mp3",
        "Labels": ["calm"],
        "Scenes": ["education"],
        "Engine": "",
    },
    {"VoiceId": "v1_bob", "Name": None, "Gender": None, "Languages": None, "AudioUrl": None},
]


def make_response(**values):
    return make_json_reply({"Response": {"ErrorCode": 0, "Msg": "success", "RequestId": "req-1", **values}})


def run_page_dag(run_dag, connect, server):
    (code,) = [block for block in read_blocks(PAGE, "python") if "DAG(" in block]
    Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], "list_voices.py").write_text(code)
    connect(server.connection_uri())
    return run_dag("list_voices", "list_voices")


def test_voice_dag_prints_every_voice_as_a_table_row(run_dag, connect, capfd):
    with ScriptedServer(make_response(TotalCount=2, Voices=VOICES)) as server:
        run = run_page_dag(run_dag, connect, server)
    assert run.state == "success"
    (request,) = server.requests
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert (headers["x-tc-action"], headers["x-tc-version"]) == ("DescribeVoices", "2019-06-12")
    assert json.loads(request.body) == {"VoiceType": "system"}
    output = capfd.readouterr().out
    assert "2 voices" in output
    assert "| VoiceId | Name | Gender | Languages | Sample |" in output
    assert "| v1_anna | Anna | famale | en, de | https://audio.example/anna.mp3 |" in output
    assert "| v1_bob |  |  |  |  |" in output


def test_voice_dag_without_voices_succeeds(run_dag, connect, capfd):
    with ScriptedServer(make_response(TotalCount=0, Voices=None)) as server:
        assert run_page_dag(run_dag, connect, server).state == "success"
    assert "0 voices" in capfd.readouterr().out


def test_voice_dag_with_error_code_fails_with_its_message(run_dag, connect, capfd):
    with ScriptedServer(make_response(ErrorCode=110, Msg="no voices for you", Voices=None)) as server:
        assert run_page_dag(run_dag, connect, server).state == "failed"
    captured = capfd.readouterr()
    assert "ErrorCode 110: no voices for you" in captured.out + captured.err


def test_voice_dag_without_permission_fails_with_the_code(run_dag, connect, capfd):
    with ScriptedServer(make_api_error("AuthFailure.UnauthorizedOperation")) as server:
        assert run_page_dag(run_dag, connect, server).state == "failed"
    captured = capfd.readouterr()
    assert "AuthFailure.UnauthorizedOperation" in captured.out + captured.err


def test_voice_dag_against_emulator_fails_with_invalid_action(run_dag, start_emulator, capfd):
    start_emulator()
    (code,) = [block for block in read_blocks(PAGE, "python") if "DAG(" in block]
    Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], "list_voices.py").write_text(code)
    assert run_dag("list_voices", "list_voices").state == "failed"
    captured = capfd.readouterr()
    assert "InvalidAction" in captured.out + captured.err


def test_voice_page_lists_the_parameters_and_fields_of_the_sdk():
    from tencentcloud.mps.v20190612 import models

    if not hasattr(models, "DescribeVoicesRequest"):
        pytest.skip("this version of the SDK has no voice actions")
    page = PAGE.read_text()
    parameters = {name.lstrip("_") for name in vars(models.DescribeVoicesRequest())}
    named = {"VoiceType", "Languages", "Gender", "Age", "VoiceName", "VoiceId", "PageNum", "PageSize"}
    assert named <= parameters
    assert all(f"`{name}`" in page for name in named)
    fields = {name.lstrip("_") for name in vars(models.VoiceInfo())}
    assert not [field for field in fields if f"`{field}`" not in page]
