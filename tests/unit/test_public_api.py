"""
The names, signatures and defaults that DAGs are written against: a change to one of them is a change to this file.

What may be added without a new major version are arguments with defaults, behind those that may be given by position.
"""

import importlib
import inspect

import pytest

SIGNATURES = {
    "hooks.mps.MpsHook": """(mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, **kwargs: 'Any') -> 'None'""",
    "hooks.mps.MpsHook.get_conn": """(self) -> 'Client'""",
    "hooks.mps.MpsHook.aget_conn": """(self) -> 'AsyncClient'""",
    "hooks.mps.MpsHook.describe_text_to_speech_task": """(self, mps_task_id: 'str') -> 'TextToSpeechTask'""",
    "hooks.mps.MpsHook.adescribe_text_to_speech_task": """(self, mps_task_id: 'str') -> 'TextToSpeechTask'""",
    "hooks.mps.MpsHook.submit_text_to_speech": """(self, text: 'str', voice_id: 'str', text_lang: 'str | None' = None, ext_param: 'Mapping[str, Any] | str | None' = None) -> 'str'""",
    "hooks.mps.MpsHook.asubmit_text_to_speech": """(self, text: 'str', voice_id: 'str', text_lang: 'str | None' = None, ext_param: 'Mapping[str, Any] | str | None' = None) -> 'str'""",
    "hooks.mps.MpsHook.test_connection": """(self) -> 'tuple[bool, str]'""",
    "hooks.mps.MpsHook.aclose": """(self) -> 'None'""",
    "sensors.text_to_speech.TextToSpeechTaskSensor": """(*, mps_task_id: 'str', mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, mode: 'str' = 'reschedule', deferrable: 'bool' = False, start_from_trigger: 'bool' = False, end_from_trigger: 'bool' = False, **kwargs: 'Any') -> 'None'""",
    "triggers.text_to_speech.TextToSpeechTaskTrigger": """(mps_task_id: 'str', mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, poll_interval: 'float' = 10.0, *, exponential_backoff: 'bool' = False, max_wait: 'float | None' = None, asked_at: 'float | None' = None, deadline: 'float | None' = None, end_from_trigger: 'bool' = False) -> 'None'""",
    "operators.text_to_speech.TextToSpeechOperator": """(*, text: 'str | None' = None, voice_id: 'str', text_path: 'str | ObjectStoragePath | None' = None, text_lang: 'str | None' = None, ext_param: 'Mapping[str, Any] | str | None' = None, sample_rate: 'int | str | None' = None, pitch: 'int | str | None' = None, target_duration: 'float | str | None' = None, translate_to: 'str | None' = None, translate_requirement: 'str | None' = None, max_characters: 'int | str | None' = None, wait_for_completion: 'bool' = False, deferrable: 'bool' = False, poll_interval: 'float' = 10.0, durable: 'bool' = True, on_unknown: "Literal['fail', 'resubmit']" = 'fail', mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, **kwargs: 'Any') -> 'None'""",
    "operators.text_to_speech.TextToSpeechToObjectStorageOperator": """(*, mps_task_id: 'str', destination: 'str | ObjectStoragePath', if_exists: "Literal['overwrite', 'skip', 'fail']" = 'overwrite', transfer_timeout: 'float' = 3600.0, mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, **kwargs: 'Any') -> 'None'""",
    "operators.batch.TextToSpeechBatchOperator": """(*, manifest: 'str | ObjectStoragePath', destination: 'str | ObjectStoragePath', voice_id: 'str | None' = None, text_lang: 'str | None' = None, ext_param: 'Mapping[str, Any] | str | None' = None, sample_rate: 'int | str | None' = None, pitch: 'int | str | None' = None, max_characters: 'int | str | None' = None, resume: 'bool' = True, on_unknown: "Literal['fail', 'resubmit']" = 'fail', on_line_failure: "Literal['fail', 'continue']" = 'fail', dry_run: 'bool' = False, deferrable: 'bool' = False, poll_interval: 'float' = 10.0, transfer_timeout: 'float' = 3600.0, mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, **kwargs: 'Any') -> 'None'""",
    "text_to_speech.TextToSpeechTask": """(task_id: 'str', status: 'TaskStatus', audio_url: 'str | None' = None, voice_id: 'str | None' = None, ext_info: 'dict[str, Any]' = <factory>, error_code: 'int | None' = None, message: 'str' = '', request_id: 'str' = '') -> None""",
    "text_to_speech.TextToSpeechTask.from_answer": """(task_id: 'str', answer: 'Mapping[str, Any]') -> 'TextToSpeechTask'""",
    "text_to_speech.TextToSpeechTask.is_ready": """(self) -> 'bool'""",
    "text_to_speech.TextToSpeechTask.to_xcom": """(self) -> 'dict[str, Any]'""",
    "errors.MpsApiError": """(code: 'str', message: 'str', request_id: 'str' = '', context: 'str' = '') -> 'None'""",
    "errors.MpsPermanentError": """(code: 'str', message: 'str', request_id: 'str' = '', context: 'str' = '') -> 'None'""",
    "errors.TextToSpeechTaskFailed": """(task_id: 'str', error_code: 'int | None', message: 'str', request_id: 'str') -> 'None'""",
}
BASES = {
    "errors.MpsApiError": ["AirflowException"],
    "errors.MpsPermanentError": ["MpsApiError", "AirflowFailException"],
    "errors.TextToSpeechTaskFailed": ["AirflowFailException"],
    "errors.InvalidRequestError": ["AirflowFailException", "ValueError"],
    "errors.InvalidMpsConnectionError": ["AirflowFailException"],
    "errors.AudioTransferError": ["AirflowException"],
    "errors.DestinationError": ["AirflowFailException"],
}
TEMPLATED = {
    "sensors.text_to_speech.TextToSpeechTaskSensor": "mps_task_id mps_conn_id region",
    "operators.text_to_speech.TextToSpeechOperator": (
        "text text_path voice_id text_lang ext_param sample_rate pitch target_duration translate_to "
        "translate_requirement max_characters mps_conn_id region"
    ),
    "operators.text_to_speech.TextToSpeechToObjectStorageOperator": "mps_task_id destination mps_conn_id region",
}


def named(name):
    """What a name below the package stands for."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(["airflow_provider_mps", *parts[:length]]))
        except ImportError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise AssertionError(name)


@pytest.mark.parametrize("name", SIGNATURES)
def test_who_calls_it_as_before_is_understood(name):
    assert str(inspect.signature(named(name))) == SIGNATURES[name]


@pytest.mark.parametrize("name", BASES)
def test_who_catches_an_error_catches_it_as_before(name):
    assert [base.__name__ for base in named(name).__bases__] == BASES[name]


@pytest.mark.parametrize("name", TEMPLATED)
def test_what_was_rendered_is_rendered(name):
    assert " ".join(named(name).template_fields) == TEMPLATED[name]


def test_the_status_is_spelled_as_the_api_spells_it():
    assert [each.value for each in named("text_to_speech.TaskStatus")] == ["success", "fail", "processing"]


def test_the_connection_is_found_under_its_name():
    hook = named("hooks.mps.MpsHook")
    assert (hook.conn_type, hook.default_conn_name, hook.conn_name_attr, hook.hook_name) == (
        "tencent_mps",
        "mps_default",
        "mps_conn_id",
        "Tencent Cloud MPS",
    )


def test_what_was_deferred_by_an_older_version_is_found():
    path, _ = named("triggers.text_to_speech.TextToSpeechTaskTrigger")("task-1").serialize()
    assert path == "airflow_provider_mps.triggers.text_to_speech.TextToSpeechTaskTrigger"
