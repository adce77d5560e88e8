from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor

TEMPLATES = ["{{ secret }}", "{% if secret %}x{% endif %}", "{# secret #}", "{{ broken", "50 % {{"]


@pytest.fixture
def rendered(monkeypatch):
    """Return a function that renders one map index of a mapped operator."""

    def render(operator_class, returned=None, in_the_dag=None, index=0, default_args=None, **partial):
        with DAG("mapped", schedule=None, default_args=default_args or {}) as dag:
            read = BaseOperator(task_id="read")
            mapped = operator_class.partial(task_id="mapped", **partial).expand_kwargs(in_the_dag or read.output)
        monkeypatch.setattr(type(read.output), "resolve", lambda *_: returned)
        run = SimpleNamespace(conf=None)
        context = {"ti": SimpleNamespace(map_index=index), "secret": "RENDERED", "dag": dag, "dag_run": run}
        mapped.render_template_fields(context)
        return context["task"]

    return render


@pytest.mark.parametrize("text", TEMPLATES)
def test_expand_kwargs_text_from_task_is_not_rendered(rendered, text):
    task = rendered(TextToSpeechOperator, [{"text": "first"}, {"text": text}], index=1, voice_id="{{ secret }}")
    assert (task.text, task.voice_id) == (text, "RENDERED")


def test_expand_kwargs_values_from_task_are_not_rendered(rendered):
    returned = {"text": "t", "voice_id": "{{ secret }}", "ext_param": {"synExt": {"x": "{{ secret }}"}}}
    task = rendered(TextToSpeechOperator, [returned], region="{{ secret }}")
    assert {name: getattr(task, name) for name in returned} == returned
    assert task.region == "RENDERED"


@pytest.mark.parametrize(
    ("operator_class", "field", "partial"),
    [
        (TextToSpeechTaskSensor, "mps_task_id", {}),
        (TextToSpeechToObjectStorageOperator, "destination", {"mps_task_id": "{{ secret }}"}),
        (TextToSpeechBatchOperator, "manifest", {"destination": "{{ secret }}"}),
    ],
)
def test_expand_kwargs_of_each_operator_keeps_values_from_task(rendered, operator_class, field, partial):
    task = rendered(operator_class, [{field: "{{ secret }}"}], **partial)
    assert getattr(task, field) == "{{ secret }}"
    assert [getattr(task, name) for name in partial] == ["RENDERED"] * len(partial)


def test_expand_kwargs_values_in_dag_are_rendered(rendered):
    task = rendered(TextToSpeechOperator, in_the_dag=[{"text": "a {{ secret }}"}], voice_id="v")
    assert task.text == "a RENDERED"


def test_expand_kwargs_default_args_are_rendered(rendered):
    defaults = {"region": "{{ secret }}"}
    task = rendered(TextToSpeechOperator, [{"text": "{{ secret }}"}], default_args=defaults, voice_id="v")
    assert (task.text, task.region) == ("{{ secret }}", "RENDERED")
