"""Run the DAG of docs/spending.md that caps a batch, and check the limits that the page promises."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Param, ParamValidationError

from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator
from airflow_provider_mps.speech.parsing import OnUnknown
from tests.batching import Clips, line, run_batch, submits, write_manifest
from tests.docs.pages import DOCS, read_blocks

PAGE = DOCS / "spending.md"
BLOCKS = read_blocks(PAGE, "python")


def find_block(text: str) -> str:
    (code,) = [block for block in BLOCKS if text in block]
    return code


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "speak", "clips"), [(11, "success", 2), (10, "failed", 0)])
def test_capped_batch_submits_only_within_the_limit(run_dag, app, tmp_path, limit, speak, clips):
    lines = [{"id": "1", "text": "Hello."}, {"id": "2", "text": "World"}]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], "capped_batch.py").write_text(find_block('"capped_batch"'))
    run = run_dag("capped_batch", "capped_batch", folder=f"file://{tmp_path}/", max_characters=limit)
    assert run.state == speak
    assert run.tasks["speak"] == (speak, 1)  # not retried
    assert submits(app) == len(list(tmp_path.rglob("*.wav"))) == clips


def test_trigger_form_rejects_a_text_over_max_length():
    names: dict[str, object] = {"DAG": DAG, "Param": Param, "TextToSpeechOperator": TextToSpeechOperator}
    exec(find_block('"read_aloud"').replace(")}):", ")}) as dag:"), names)
    param = names["dag"].params.get_param("text")
    assert param.resolve("x" * 500)
    with pytest.raises(ParamValidationError, match="too long"):
        param.resolve("x" * 501)


def test_max_characters_is_off_by_default_and_templated():
    for operator in (TextToSpeechOperator, TextToSpeechBatchOperator):
        assert inspect.signature(operator.__init__).parameters["max_characters"].default is None
        assert "max_characters" in operator.template_fields


def test_limit_of_a_batch_is_off_by_default_and_templated():
    for name in ("max_total_characters", "price_per_1000_characters"):
        assert inspect.signature(TextToSpeechBatchOperator.__init__).parameters[name].default is None
        assert name in TextToSpeechBatchOperator.template_fields


def test_approved_batch_submits_at_most_the_estimate():
    """The whole flow is tested with the example DAG; this DAG has the same tasks."""
    names: dict[str, object] = {}
    exec(find_block('"approved_batch"').replace("1):", "1) as dag:"), names)
    dag = names["dag"]
    assert dag.get_task("speak").max_total_characters == "{{ ti.xcom_pull(task_ids='estimate')['characters'] }}"
    assert dag.get_task("approve").downstream_task_ids == {"speak"}


def test_text_over_max_characters_is_not_submitted(app, tmp_path):
    (tmp_path / "long.txt").write_text("x" * 501)
    for source in ({"text": "x" * 501}, {"text_path": f"file://{tmp_path}/long.txt"}):
        submit = TextToSpeechOperator(task_id="submit", voice_id="voice-1", max_characters=500, **source)
        with pytest.raises(AirflowFailException, match="501 characters"):
            submit.execute({})
    assert submits(app) == 0


def test_line_over_max_characters_is_invalid_and_others_continue(app, tmp_path):
    manifest = write_manifest(tmp_path / "m.jsonl", [line(0), line(1, text="x" * 101)])
    result = run_batch(manifest, f"file://{tmp_path}/c/", max_characters=100, on_line_failure="continue")
    assert (result["stored"], result["invalid"], submits(app)) == (1, 1, 1)


def test_on_unknown_of_the_page_is_the_default():
    for operator in (TextToSpeechOperator, TextToSpeechBatchOperator):
        assert inspect.signature(operator.__init__).parameters["on_unknown"].default == OnUnknown.FAIL


def test_characters_count_a_line_once_and_no_unknown_line(app, tmp_path):
    clips = Clips(f"file://{tmp_path}/c/")
    manifest = write_manifest(tmp_path / "m.jsonl", [line(0), line(1, text="[fail] x")])
    for run_id in ("run-1", "run-2"):
        run_batch(manifest, clips.destination, run_id, on_line_failure="continue")
    assert submits(app) == 3
    assert clips.summary()["characters"] == len(line(0)["text"]) + len("[fail] x")
    app.faults_of = lambda _: (502, b"bad gateway") if app.actions[-1] == "TextToSpeechAsync" else None
    write_manifest(tmp_path / "m.jsonl", [line(0), line(2)])
    run_batch(manifest, clips.destination, "run-3", on_line_failure="continue")
    assert clips.summary()["unknown"] == 1
    assert clips.summary()["characters"] == len(line(0)["text"])


def test_spending_report_prints_the_accepted_characters(app, tmp_path, capsys):
    run_batch(write_manifest(tmp_path / "m.jsonl", [line(0)]), f"file://{tmp_path}/c/")
    names: dict[str, object] = {}
    with DAG("spending_report", schedule=None):
        exec(find_block("def print_characters"), names)
    names["print_characters"].function(f"file://{tmp_path}/c/")
    assert "15 characters accepted, 0 lines unknown" in capsys.readouterr().out
