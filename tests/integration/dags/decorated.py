"""Functions that return what is submitted; for ``test_decorator.py``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task


def break_first_attempt(context: Any, result: Any = None) -> None:
    """Fail an attempt that has submitted."""
    if context["ti"].try_number == 1:
        raise RuntimeError("the first attempt is broken")


waits = {"wait_for_completion": True, "poll_interval": 0.1}

with DAG(
    "decorated",
    schedule=None,
    default_args={"voice_id": "voice-1"},
    params={"greeting": "Hello,", "voice_name": "Nobody"},
) as decorated:

    @task
    def count_rows() -> int:
        return 3

    @task
    def list_texts() -> list[dict[str, str]]:
        return [{"text": "Mapped {{ conn.mps_default.password }}."}, {"text": "Mapped two."}]

    @task.text_to_speech
    def text(rows: int, params: Any = None) -> str:
        return f"{params['greeting']} {rows} rows."

    @task.text_to_speech(voice_id=None, voice_name="{{ params.voice_name }}", **waits)
    def arguments(rows: int) -> dict[str, Any]:
        return {"text": f"In a dict: {rows}.", "voice_id": "voice-2", "sample_rate": 8000}

    @task.text_to_speech(deferrable=True, **waits)
    def deferred(rows: int) -> str:
        print("The function was called")  # noqa: T201 - the test counts it
        return f"Deferred {rows}."

    @task.text_to_speech
    def mapped(text: str) -> str:
        return text

    rows = count_rows()
    text(rows)
    arguments(rows)
    deferred(rows)
    mapped.expand_kwargs(list_texts())
    mapped.override(task_id="expanded").expand(text=["Expanded."])

with DAG("decorated_failures", schedule=None, default_args={"voice_id": "voice-1"}) as decorated_failures:
    retried = {"retries": 1, "retry_delay": timedelta(0)}

    @task.text_to_speech(**retried)
    def returns_nothing() -> None:
        pass

    @task.text_to_speech(**retried)
    def fails_once(ti: Any = None) -> str:
        if ti.try_number == 1:
            raise RuntimeError("the source of the text is not available")
        return "After a retry."

    @task.text_to_speech(**retried, **waits)
    def fails_at_mps() -> str:
        return "[fail] MPS makes no audio of it."

    @task.text_to_speech(post_execute=break_first_attempt, **retried)
    def fails_after_submit() -> str:
        return "Submitted by the first attempt."

    @task.text_to_speech
    def skips() -> str:
        from airflow.providers.common.compat.sdk import AirflowSkipException

        raise AirflowSkipException("nothing to say")

    returns_nothing()
    fails_once()
    fails_at_mps()
    fails_after_submit()
    skips()
