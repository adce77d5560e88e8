"""Responses of a broken or hostile API server."""

import json

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mps.api.response import parse_response
from airflow_provider_mps.exceptions import MpsApiError, TextToSpeechTaskFailed
from airflow_provider_mps.speech.task import TaskStatus, TextToSpeechTask
from tests.fuzz.conftest import FUZZ

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["Status", "AudioUrl", "VoiceId", "ExtInfo", "ErrorCode", "Msg", "RequestId", "Error", "Code"])
envelopes = st.fixed_dictionaries(
    {"Response": st.dictionaries(names, values | st.sampled_from([*TaskStatus])) | values}
)
bodies = st.binary(max_size=200) | envelopes.map(lambda envelope: json.dumps(envelope).encode())


@FUZZ
@given(
    status=st.sampled_from([200, 204, 301, 400, 500, 502]) | st.integers(100, 599), body=bodies, cut=st.integers(0, 99)
)
def test_response_is_parsed_or_raises_own_error(status, body, cut):
    for received in (body, body[:cut]):
        try:
            response = parse_response(status, received)
            task = TextToSpeechTask.from_response("task-1", response)
            task.raise_for_status()
        except (MpsApiError, TextToSpeechTaskFailed) as error:
            message = str(error).encode()  # as logs do
            assert len(message) < 2000
        else:
            assert status == 200
            assert task.is_done is (response["Status"] == "success")
            json.dumps(task.to_xcom(), allow_nan=False).encode()
