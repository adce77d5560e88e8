"""How the arguments of a batch reach the requests of its lines."""

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from airflow_provider_mps.batch.line import ManifestLine
from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.batch.run import Batch, BatchOutcome
from airflow_provider_mps.batch.summary import Summary
from airflow_provider_mps.concurrency import EventLoopThread
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from tests.batching import context, write_manifest
from tests.scripted_server import RESET, ScriptedServer, make_api_error

SPEECH_ARGUMENTS = [
    ("sample_rate", 22050, 8000, ("synExt", "sampleRate")),
    ("pitch", 3, -3, ("synExt", "pitch")),
    ("target_duration", 2.5, 4.0, ("synExt", "duration")),
    ("translate_to", "en", "ja", ("transExt", "transInfo", "transDst")),
    ("translate_requirement", "formal", "short", ("transExt", "transRequirement")),
]
"""Argument, value of the operator, value of a line, and place in ``ExtParam``."""


def make_batch(tmp_path, lines=(), **arguments):
    manifest = write_manifest(tmp_path / "manifest.jsonl", [{"voice_id": "v", "text": "hello", **one} for one in lines])
    return TextToSpeechBatchOperator(
        task_id="batch", manifest=manifest, destination=f"file://{tmp_path}/clips", **arguments
    )


def make_request(operator, **fields):
    """Return the request of a line of the operator's manifest."""
    options = operator._make_options()
    line = ManifestLine.parse(1, {"id": "a", "text": "hello", "voice_id": "v", **fields})
    return line.make_request(options.defaults, options.manifest)


def make_fingerprint(operator, **fields):
    options = operator._make_options()
    return make_request(operator, **fields).fingerprint(options.mps_conn_id, options.region)


def nest(path, value):
    """Return ``{"a": {"b": value}}`` for the path ``("a", "b")``."""
    for key in reversed(path):
        value = {key: value}
    return value


@pytest.mark.parametrize(("name", "value", "_", "path"), SPEECH_ARGUMENTS)
def test_speech_argument_applies_to_lines_without_their_own(tmp_path, name, value, _, path):
    operator = make_batch(tmp_path, **{name: value})
    assert make_request(operator).ext_param == nest(path, value)
    assert make_request(operator, **{name: ""}).ext_param == nest(path, value)  # an empty CSV cell


@pytest.mark.parametrize(("name", "value", "own_value", "path"), SPEECH_ARGUMENTS)
def test_speech_argument_is_overridden_by_the_line(tmp_path, name, value, own_value, path):
    operator = make_batch(tmp_path, **{name: value})
    assert make_request(operator, **{name: own_value}).ext_param == nest(path, own_value)
    assert make_request(operator, ext_param=nest(path, own_value)).ext_param == nest(path, own_value)


def test_speech_arguments_are_merged_with_other_values_of_a_line(tmp_path):
    operator = make_batch(tmp_path, target_duration=3, translate_to="en", ext_param={"synExt": {"pitch": 1}})
    assert make_request(operator, translate_requirement="short", sample_rate=8000).ext_param == {
        "synExt": {"pitch": 1, "duration": 3.0, "sampleRate": 8000},
        "transExt": {"transInfo": {"transDst": "en"}, "transRequirement": "short"},
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {"target_duration": 0},
        {"target_duration": -1},
        {"target_duration": "long"},
        {"target_duration": float("inf")},
        {"translate_to": 3},
        {"translate_requirement": ["short"]},
        *({name: value, "ext_param": nest(path, value)} for name, value, _, path in SPEECH_ARGUMENTS),
    ],
)
def test_invalid_speech_argument_fails_before_any_call(connect, tmp_path, arguments):
    name = next(iter(arguments))
    problem = rf"^{name} is given twice" if "ext_param" in arguments else rf"^{name} (must be|is empty)"
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match=problem):
            make_batch(tmp_path, [{"id": "a"}], **arguments).execute(context())
        assert server.requests == []


def test_both_kinds_of_voice_fail_before_any_call(connect, tmp_path):
    with ScriptedServer(RESET) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError, match="voice_id and voice_name are both given"):
            make_batch(tmp_path, [{"id": "a"}], voice_id="v", voice_name="Anna").execute(context())
        assert server.requests == []


def test_rendered_speech_arguments_are_sent_to_mps(connect, tmp_path):
    operator = make_batch(
        tmp_path,
        [{"id": "a"}, {"id": "b", "target_duration": 9, "translate_to": "ko", "translate_requirement": "own"}],
        target_duration="{{ seconds }}",
        translate_to="{{ language }}",
        translate_requirement="{{ style }}",
    )
    operator.render_template_fields({"seconds": 1.5, "language": "en", "style": "formal"})
    with ScriptedServer(make_api_error("InvalidParameter")) as server:
        connect(server.connection_uri())
        with pytest.raises(AirflowFailException, match="2 of 2 lines have no audio"):
            operator.execute(context())
        sent = [json.loads(json.loads(request.body)["ExtParam"]) for request in server.requests]
    assert sorted(sent, key=lambda one: one["synExt"]["duration"]) == [
        {"synExt": {"duration": 1.5}, "transExt": {"transInfo": {"transDst": "en"}, "transRequirement": "formal"}},
        {"synExt": {"duration": 9.0}, "transExt": {"transInfo": {"transDst": "ko"}, "transRequirement": "own"}},
    ]


def test_fingerprints_of_earlier_versions_are_unchanged(tmp_path):
    """A changed fingerprint would submit, and bill, the lines of an earlier batch again."""
    assert make_fingerprint(make_batch(tmp_path)) == "63a9c6c47e8d0c1dd817505f19ee403f"
    translation = {"transExt": {"transInfo": {"transDst": "ja"}}}
    operator = make_batch(tmp_path, text_lang="en", sample_rate=8000, ext_param=translation)
    assert make_fingerprint(operator, pitch=2) == "67f86c92141795a6cbf0df5732b393b7"


@pytest.mark.parametrize("empty", [None, "", " "])
def test_empty_target_duration_keeps_the_fingerprint(tmp_path, empty):
    operator = make_batch(tmp_path, target_duration=empty, translate_to="", translate_requirement=None)
    assert make_fingerprint(operator) == make_fingerprint(make_batch(tmp_path))


@pytest.mark.parametrize("waiting", [[], ["task-1"]])
def test_execution_timeout_does_not_fail_a_finished_batch(tmp_path, monkeypatch, waiting):
    """It may come while only the removal of the log is left. A deferred batch has not finished."""
    run = EventLoopThread.run

    async def finish(_):
        return BatchOutcome(Summary({LineStatus.STORED: 1}), waiting)

    def interrupt(self):
        run(self)
        raise AirflowTaskTimeout

    monkeypatch.setattr(Batch, "__init__", lambda *_: None)
    monkeypatch.setattr(Batch, "run", finish)
    monkeypatch.setattr(EventLoopThread, "run", interrupt)
    if waiting:
        with pytest.raises(AirflowTaskTimeout):
            make_batch(tmp_path).execute(context())
    else:
        assert make_batch(tmp_path).execute(context())["stored"] == 1
