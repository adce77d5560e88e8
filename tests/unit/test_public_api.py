"""
The names, signatures and defaults that DAGs use. A change to one of them also changes this file.

A minor version can add arguments with defaults after the positional ones.
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
    "hooks.mps.MpsHook.list_voices": """(self, voice_type: 'str' = 'all', name: 'str | None' = None, gender: 'str | None' = None, age: 'str | None' = None, languages: 'Sequence[str] | str | None' = None, labels: 'Sequence[str] | str | None' = None, scenes: 'Sequence[str] | str | None' = None) -> 'list[Voice]'""",
    "hooks.mps.MpsHook.alist_voices": """(self, voice_type: 'str' = 'all', name: 'str | None' = None, **filters: 'Unpack[VoiceFilters]') -> 'list[Voice]'""",
    "hooks.mps.MpsHook.get_voice": """(self, voice_id: 'str') -> 'Voice | None'""",
    "hooks.mps.MpsHook.aget_voice": """(self, voice_id: 'str') -> 'Voice | None'""",
    "hooks.mps.MpsHook.find_voice": """(self, name: 'str') -> 'Voice'""",
    "hooks.mps.MpsHook.afind_voice": """(self, name: 'str') -> 'Voice'""",
    "hooks.mps.MpsHook.clone_voice": """(self, audio: 'bytes | str | ObjectStoragePath', name: 'str', *, audio_lang: 'str | None' = None, description: 'str | None' = None, gender: 'str | None' = None, age: 'str | None' = None, languages: 'Sequence[str] | str | None' = None, labels: 'Sequence[str] | str | None' = None, scenes: 'Sequence[str] | str | None' = None, trial_text: 'str | None' = None) -> 'str'""",
    "hooks.mps.MpsHook.aclone_voice": """(self, audio: 'bytes | str | ObjectStoragePath', name: 'str', *, audio_lang: 'str | None' = None, trial_text: 'str | None' = None, **fields: 'Unpack[VoiceFields]') -> 'str'""",
    "hooks.mps.MpsHook.submit_voice_design": """(self, prompt: 'str', name: 'str', *, description: 'str | None' = None, gender: 'str | None' = None, age: 'str | None' = None, languages: 'Sequence[str] | str | None' = None, labels: 'Sequence[str] | str | None' = None, scenes: 'Sequence[str] | str | None' = None, trial_text: 'str | None' = None) -> 'str'""",
    "hooks.mps.MpsHook.asubmit_voice_design": """(self, prompt: 'str', name: 'str', *, trial_text: 'str | None' = None, **fields: 'Unpack[VoiceFields]') -> 'str'""",
    "hooks.mps.MpsHook.describe_voice_design": """(self, mps_task_id: 'str') -> 'VoiceDesignTask'""",
    "hooks.mps.MpsHook.adescribe_voice_design": """(self, mps_task_id: 'str') -> 'VoiceDesignTask'""",
    "hooks.mps.MpsHook.update_voice": """(self, voice_id: 'str', **fields: 'Any') -> 'Voice'""",
    "hooks.mps.MpsHook.aupdate_voice": """(self, voice_id: 'str', **fields: 'Any') -> 'Voice'""",
    "hooks.mps.MpsHook.delete_voice": """(self, voice_id: 'str') -> 'None'""",
    "hooks.mps.MpsHook.adelete_voice": """(self, voice_id: 'str') -> 'None'""",
    "speech.voices.Voice": """(voice_id: 'str', name: 'str' = '', description: 'str' = '', category: 'str' = '', gender: 'str' = '', age: 'str' = '', languages: 'tuple[str, ...]' = (), labels: 'tuple[str, ...]' = (), scenes: 'tuple[str, ...]' = (), audio_url: 'str | None' = None) -> None""",
    "sensors.text_to_speech.TextToSpeechTaskSensor": """(*, mps_task_id: 'str', mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, mode: 'str' = 'reschedule', deferrable: 'bool' = False, start_from_trigger: 'bool' = False, end_from_trigger: 'bool' = False, **kwargs: 'Any') -> 'None'""",
    "triggers.text_to_speech.TextToSpeechTaskTrigger": """(mps_task_id: 'str', mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, poll_interval: 'float' = 10.0, *, exponential_backoff: 'bool' = False, max_wait: 'float | None' = None, deferred_at: 'float | None' = None, deadline: 'float | None' = None, end_from_trigger: 'bool' = False, asked_at: 'float | None' = None) -> 'None'""",
    "operators.text_to_speech.TextToSpeechOperator": """(*, text: 'str | None' = None, voice_id: 'str | None' = None, voice_name: 'str | None' = None, text_path: 'str | ObjectStoragePath | None' = None, text_lang: 'str | None' = None, ext_param: 'Mapping[str, Any] | str | None' = None, sample_rate: 'int | str | None' = None, pitch: 'int | str | None' = None, target_duration: 'float | str | None' = None, translate_to: 'str | None' = None, translate_requirement: 'str | None' = None, max_characters: 'int | str | None' = None, wait_for_completion: 'bool' = False, deferrable: 'bool' = False, poll_interval: 'float' = 10.0, durable: 'bool' = True, on_unknown: "Literal['fail', 'resubmit']" = 'fail', mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, **kwargs: 'Any') -> 'None'""",
    "operators.text_to_speech.TextToSpeechToObjectStorageOperator": """(*, mps_task_id: 'str', destination: 'str | ObjectStoragePath', if_exists: "Literal['overwrite', 'skip', 'fail']" = 'overwrite', transfer_timeout: 'float' = 3600.0, partition_key: 'str | None' = None, mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, **kwargs: 'Any') -> 'None'""",
    "hooks.mps.MpsHook.synthesize_speech": """(self, text: 'str', voice_id: 'str', text_lang: 'str | None' = None, *, audio_format: 'str' = 'wav', sample_rate: 'int | str | None' = None, target_duration: 'float | str | None' = None, output_type: 'str' = 'url') -> 'SynthesizedSpeech'""",
    "hooks.mps.MpsHook.asynthesize_speech": """(self, text: 'str', voice_id: 'str', text_lang: 'str | None' = None, **options: 'Unpack[SynthesisOptions]') -> 'SynthesizedSpeech'""",
    "speech.synthesis.SynthesizedSpeech": """(audio_url: 'str | None' = None, audio_data: 'bytes | None' = None, ext_info: 'dict[str, Any]' = <factory>, request_id: 'str' = '') -> None""",
    "operators.text_to_speech.TextToSpeechSynthesizeOperator": """(*, destination: 'str | ObjectStoragePath', text: 'str | None' = None, voice_id: 'str | None' = None, voice_name: 'str | None' = None, text_path: 'str | ObjectStoragePath | None' = None, text_lang: 'str | None' = None, audio_format: 'str' = 'wav', sample_rate: 'int | str | None' = None, target_duration: 'float | str | None' = None, max_characters: 'int | str | None' = None, output_type: "Literal['url', 'data']" = 'url', if_exists: "Literal['overwrite', 'skip', 'fail']" = 'overwrite', on_unknown: "Literal['fail', 'resubmit']" = 'fail', durable: 'bool' = True, transfer_timeout: 'float' = 3600.0, partition_key: 'str | None' = None, mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, **kwargs: 'Any') -> 'None'""",
    "operators.batch.TextToSpeechBatchOperator": """(*, manifest: 'str | ObjectStoragePath', destination: 'str | ObjectStoragePath', voice_id: 'str | None' = None, voice_name: 'str | None' = None, text_lang: 'str | None' = None, ext_param: 'Mapping[str, Any] | str | None' = None, sample_rate: 'int | str | None' = None, pitch: 'int | str | None' = None, target_duration: 'float | str | None' = None, translate_to: 'str | None' = None, translate_requirement: 'str | None' = None, fit_to_cues: 'bool | str' = False, subtitle_encoding: 'str | None' = None, max_characters: 'int | str | None' = None, resume: 'bool' = True, on_unknown: "Literal['fail', 'resubmit']" = 'fail', on_line_failure: "Literal['fail', 'continue']" = 'fail', dry_run: 'bool' = False, deferrable: 'bool' = False, poll_interval: 'float' = 10.0, transfer_timeout: 'float' = 3600.0, partition_key: 'str | None' = None, mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, **kwargs: 'Any') -> 'None'""",
    "operators.track.AssembleTrackOperator": """(*, results: 'str | ObjectStoragePath | Mapping[str, Any]', destination: 'str | ObjectStoragePath', subtitles: 'str | ObjectStoragePath | None' = None, gap: 'float | str' = 0.0, overlap: 'str' = 'shift', on_missing: 'str' = 'fail', timeline: 'bool | str | None' = None, sample_rate: 'int | str | None' = None, manifest: 'str | ObjectStoragePath | None' = None, subtitle_encoding: 'str | None' = None, if_exists: "Literal['overwrite', 'fail']" = 'overwrite', transfer_timeout: 'float' = 3600.0, partition_key: 'str | None' = None, **kwargs: 'Any') -> 'None'""",
    "operators.voices.CloneVoiceOperator": """(*, audio: 'str | ObjectStoragePath', name: 'str', audio_lang: 'str | None' = None, description: 'str | None' = None, gender: 'str | None' = None, age: 'str | None' = None, languages: 'Sequence[str] | str | None' = None, labels: 'Sequence[str] | str | None' = None, scenes: 'Sequence[str] | str | None' = None, trial_text: 'str | None' = None, trial_destination: 'str | ObjectStoragePath | None' = None, if_exists: "Literal['reuse', 'fail', 'create']" = 'reuse', durable: 'bool' = True, transfer_timeout: 'float' = 3600.0, mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, **kwargs: 'Any') -> 'None'""",
    "operators.voices.DesignVoiceOperator": """(*, prompt: 'str', name: 'str', description: 'str | None' = None, gender: 'str | None' = None, age: 'str | None' = None, languages: 'Sequence[str] | str | None' = None, labels: 'Sequence[str] | str | None' = None, scenes: 'Sequence[str] | str | None' = None, trial_text: 'str | None' = None, trial_destination: 'str | ObjectStoragePath | None' = None, if_exists: "Literal['reuse', 'fail', 'create']" = 'reuse', deferrable: 'bool' = False, poll_interval: 'float' = 10.0, durable: 'bool' = True, on_unknown: "Literal['fail', 'resubmit']" = 'fail', transfer_timeout: 'float' = 3600.0, mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, **kwargs: 'Any') -> 'None'""",
    "operators.voices.DeleteVoiceOperator": """(*, voice_id: 'str | None' = None, voice_name: 'str | None' = None, mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, **kwargs: 'Any') -> 'None'""",
    "decorators.text_to_speech.text_to_speech_task": """(python_callable: 'Callable[..., Any] | None' = None, multiple_outputs: 'bool | None' = None, **kwargs: 'Any') -> 'TaskDecorator'""",
    "triggers.voices.VoiceDesignTaskTrigger": """(mps_task_id: 'str', mps_conn_id: 'str' = 'mps_default', region: 'str | None' = None, poll_interval: 'float' = 10.0, *, deferred_at: 'float | None' = None, deadline: 'float | None' = None) -> 'None'""",
    "speech.task.TextToSpeechTask": """(task_id: 'str', status: 'TaskStatus', audio_url: 'str | None' = None, voice_id: 'str | None' = None, ext_info: 'dict[str, Any]' = <factory>, error_code: 'int | None' = None, message: 'str' = '', request_id: 'str' = '') -> None""",
    "speech.task.TextToSpeechTask.from_response": """(task_id: 'str', response: 'Mapping[str, Any]') -> 'Self'""",
    "speech.task.TextToSpeechTask.raise_for_status": """(self) -> 'None'""",
    "speech.task.TextToSpeechTask.to_xcom": """(self) -> 'dict[str, Any]'""",
    "exceptions.MpsApiError": """(code: 'str', message: 'str', request_id: 'str' = '', context: 'str' = '') -> 'None'""",
    "exceptions.MpsPermanentError": """(code: 'str', message: 'str', request_id: 'str' = '', context: 'str' = '') -> 'None'""",
    "exceptions.TextToSpeechTaskFailed": """(task_id: 'str', error_code: 'int | None', message: 'str', request_id: 'str') -> 'None'""",
}
BASES = {
    "exceptions.MpsApiError": ["AirflowException"],
    "exceptions.MpsPermanentError": ["MpsApiError", "AirflowFailException"],
    "exceptions.MpsTaskFailed": ["AirflowFailException"],
    "exceptions.TextToSpeechTaskFailed": ["MpsTaskFailed"],
    "exceptions.VoiceDesignTaskFailed": ["MpsTaskFailed"],
    "exceptions.InvalidRequestError": ["AirflowFailException", "ValueError"],
    "exceptions.InvalidMpsConnectionError": ["AirflowFailException"],
    "exceptions.AudioTransferError": ["AirflowException"],
    "exceptions.DestinationError": ["AirflowFailException"],
}
TEMPLATED = {
    "sensors.text_to_speech.TextToSpeechTaskSensor": "mps_task_id mps_conn_id region",
    "operators.text_to_speech.TextToSpeechOperator": (
        "text text_path voice_id voice_name text_lang ext_param sample_rate pitch target_duration translate_to "
        "translate_requirement max_characters mps_conn_id region"
    ),
    "operators.text_to_speech.TextToSpeechToObjectStorageOperator": "mps_task_id destination partition_key mps_conn_id region",
    "operators.text_to_speech.TextToSpeechSynthesizeOperator": (
        "text text_path voice_id voice_name destination text_lang audio_format sample_rate target_duration "
        "max_characters partition_key mps_conn_id region"
    ),
    "operators.batch.TextToSpeechBatchOperator": (
        "manifest destination voice_id voice_name text_lang ext_param sample_rate pitch target_duration translate_to "
        "translate_requirement fit_to_cues subtitle_encoding max_characters partition_key mps_conn_id region"
    ),
    "operators.track.AssembleTrackOperator": (
        "results destination subtitles gap overlap on_missing timeline sample_rate manifest subtitle_encoding partition_key"
    ),
    "operators.voices.CloneVoiceOperator": (
        "audio name audio_lang description gender age languages labels scenes trial_text "
        "trial_destination mps_conn_id region"
    ),
    "operators.voices.DesignVoiceOperator": (
        "prompt name description gender age languages labels scenes trial_text trial_destination mps_conn_id region"
    ),
    "operators.voices.DeleteVoiceOperator": ("voice_id voice_name mps_conn_id region"),
}


def resolve(name):
    """Return the object of a dotted name in the package."""
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
def test_signatures_are_unchanged(name):
    assert str(inspect.signature(resolve(name))) == SIGNATURES[name]


@pytest.mark.parametrize("name", BASES)
def test_exception_bases_are_unchanged(name):
    assert [base.__name__ for base in resolve(name).__bases__] == BASES[name]


@pytest.mark.parametrize("name", TEMPLATED)
def test_template_fields_are_unchanged(name):
    assert " ".join(resolve(name).template_fields) == TEMPLATED[name]


def test_task_status_values_are_those_of_api():
    assert [each.value for each in resolve("speech.task.TaskStatus")] == ["success", "fail", "processing"]


def test_hook_connection_names_are_unchanged():
    hook = resolve("hooks.mps.MpsHook")
    assert (hook.conn_type, hook.default_conn_name, hook.conn_name_attr, hook.hook_name) == (
        "tencent_mps",
        "mps_default",
        "mps_conn_id",
        "Tencent Cloud MPS",
    )


def test_trigger_classpath_is_unchanged():
    path, _ = resolve("triggers.text_to_speech.TextToSpeechTaskTrigger")("task-1").serialize()
    assert path == "airflow_provider_mps.triggers.text_to_speech.TextToSpeechTaskTrigger"
