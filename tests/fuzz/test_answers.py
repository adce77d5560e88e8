"""Answers of the API, as a server that is broken or hostile may give them."""

import json

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mps.answer import read_answer
from airflow_provider_mps.errors import MpsApiError, TextToSpeechTaskFailed
from airflow_provider_mps.text_to_speech import TaskStatus, TextToSpeechTask
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
bodies = st.binary(max_size=200) | envelopes.map(lambda answer: json.dumps(answer).encode())


@FUZZ
@given(
    status=st.sampled_from([200, 204, 301, 400, 500, 502]) | st.integers(100, 599), body=bodies, cut=st.integers(0, 99)
)
def test_an_answer_is_read_or_refused_by_an_error_of_its_own(status, body, cut):
    for sent in (body, body[:cut]):
        try:
            response = read_answer(status, sent)
            task = TextToSpeechTask.from_answer("task-1", response)
            ready = task.is_ready()
        except (MpsApiError, TextToSpeechTaskFailed) as error:
            said = str(error).encode()  # as a log does
            assert len(said) < 2000
        else:
            assert status == 200
            assert ready is (response["Status"] == "success")
            json.dumps(task.to_xcom(), allow_nan=False).encode()
