import base64
import threading

import pytest

from airflow_provider_mps.emulator import tasks
from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.emulator.voices import MAX_VOICES, SYSTEM_VOICES
from tests.unit.emulator.client import Client, plain_http

SAMPLE = {"AudioData": base64.b64encode(b"RIFF").decode()}


@pytest.fixture
def client(start_emulator):
    return Client(start_emulator(rate_limit=1000))


@pytest.fixture(scope="module")
def only_system_voices():
    """Return a client of one emulator, for tests that do not add voices."""
    with RunningEmulator(Options(synthesis_time=0, voice="tone", rate_limit=1000)) as emulator:
        yield Client(emulator)


def list_voices(client, **filters):
    return client.call("DescribeVoices", filters)


def names(client, **filters):
    return [voice["Name"] for voice in list_voices(client, **filters)["Voices"]]


def clone(client, name="Narrator", **parameters):
    return client.call("CloneVoice", {**SAMPLE, "VoiceProfile": {"Name": name}, **parameters})


def design(client, prompt="a deep voice", **parameters):
    return client.call("DesignVoiceAsync", {"Prompt": prompt, "VoiceProfile": {"Name": "Deep"}, **parameters})


def describe_design(client, task_id):
    return client.call("DescribeDesignTask", {"TaskId": task_id})


def test_system_voices_have_documented_fields_and_audio(client):
    listed = list_voices(client)
    assert (listed["ErrorCode"], listed["TotalCount"]) == (0, len(SYSTEM_VOICES))
    for voice in listed["Voices"]:
        assert voice.keys() == {
            *("VoiceId", "Name", "Description", "Category", "Gender", "Age", "Languages", "AudioUrl", "Labels"),
            *("Scenes", "Engine"),
        }
        assert voice["Category"] == "system"
        assert plain_http.get(voice["AudioUrl"]).content.startswith(b"RIFF")
    assert "famale" in {voice["Gender"] for voice in listed["Voices"]}


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"VoiceName": "LAR"}, ["Clara"]),
        ({"VoiceName": "a", "Gender": "female"}, ["Amy", "Clara"]),
        ({"Age": "child"}, ["Yun"]),
        ({"Languages": ["en", "de"]}, ["Clara"]),
        ({"Labels": ["calm"], "Scenes": ["audiobook"]}, ["Amy"]),
        ({"Labels": ["calm"], "Scenes": ["news"]}, []),
        ({"Description": "news"}, ["Ben"]),
        ({"VoiceId": "emulator-ben"}, ["Ben"]),
        ({"VoiceType": "clone"}, []),
        ({"VoiceType": "system", "VoiceName": "mei"}, ["Mei"]),
        ({"PageNum": 2, "PageSize": 4}, ["Mei", "Yun"]),
        ({"PageNum": 3, "PageSize": 4}, []),
    ],
)
def test_describe_voices_applies_all_filters(only_system_voices, filters, found):
    assert names(only_system_voices, **filters) == found


def test_pages_report_count_of_all_matches(client):
    assert list_voices(client, PageNum=2, PageSize=1, Gender="male")["TotalCount"] == 2


def test_clone_is_listed_with_its_profile(client):
    profile = {"Name": "Me", "Gender": "male", "Age": "senior", "Languages": ["en"], "Labels": ["dry"], "Scenes": []}
    voice_id = client.call("CloneVoice", {**SAMPLE, "VoiceProfile": profile})["VoiceId"]
    (voice,) = list_voices(client, VoiceType="clone")["Voices"]
    assert (voice["VoiceId"], voice["Category"], voice["AudioUrl"]) == (voice_id, "clone", "")
    assert {name: voice[name] for name in profile} == profile


@pytest.mark.parametrize("output", [{}, {"Output": {"Type": "data"}}, {"Output": {"Type": "url"}}])
def test_trial_audio_of_clone_comes_as_requested(client, output):
    response = clone(client, Text="Hello", TextLang="en", **output)
    url, data = response["AudioUrl"], base64.b64decode(response["AudioData"])
    audio = plain_http.get(url).content if output.get("Output") == {"Type": "url"} else data
    assert audio.startswith(b"RIFF")
    assert bool(url) != bool(data)


def test_clone_without_trial_text_has_no_audio(client):
    response = clone(client)
    assert (response["AudioData"], response["AudioUrl"], response["ExtInfo"]) == ("", "", "")


def test_clone_whose_trial_fails_has_no_audio(client):
    response = clone(client, Text="[fail] hello", Output={"Type": "url"})
    assert response["VoiceId"]
    assert response["AudioUrl"] == ""
    assert list_voices(client, VoiceType="clone")["Voices"][0]["AudioUrl"] == ""


def test_two_clones_may_have_the_same_name(client):
    assert clone(client)["VoiceId"] != clone(client)["VoiceId"]
    assert names(client, VoiceType="clone") == ["Narrator", "Narrator"]


def test_clone_by_url_does_not_read_it(client):
    assert client.call("CloneVoice", {"AudioUrl": "http://127.0.0.1:1/a.wav"})["VoiceId"]


@pytest.mark.parametrize(
    ("action", "parameters", "code"),
    [
        ("CloneVoice", {}, "MissingParameter"),
        ("CloneVoice", {"AudioData": ""}, "MissingParameter"),
        ("CloneVoice", {"AudioData": "no base64!"}, "InvalidParameterValue"),
        ("CloneVoice", {"AudioData": "é"}, "InvalidParameterValue"),
        ("CloneVoice", {"AudioUrl": "ftp://a/b.wav"}, "InvalidParameterValue"),
        ("CloneVoice", {**SAMPLE, "Output": {"Type": "file"}}, "InvalidParameterValue"),
        ("CloneVoice", {**SAMPLE, "Output": {"Type": []}}, "InvalidParameterValue"),
        ("CloneVoice", {**SAMPLE, "Output": "url"}, "InvalidParameter"),
        ("CloneVoice", {**SAMPLE, "VoiceProfile": "Me"}, "InvalidParameter"),
        ("CloneVoice", {**SAMPLE, "VoiceProfile": {"Name": 5}}, "InvalidParameter"),
        ("CloneVoice", {**SAMPLE, "VoiceProfile": {"Languages": "en"}}, "InvalidParameter"),
        ("CloneVoice", {**SAMPLE, "VoiceProfile": {"Name": ["Me"]}}, "InvalidParameter"),
        ("CloneVoice", {**SAMPLE, "VoiceProfile": {"Labels": [5]}}, "InvalidParameter"),
        ("CloneVoice", {**SAMPLE, "VoiceProfile": {"Color": "red"}}, "UnknownParameter"),
        ("CloneVoice", {**SAMPLE, "VoiceProfile": {"Gender": "famale"}}, "InvalidParameterValue"),
        ("CloneVoice", {**SAMPLE, "VoiceProfile": {"Age": "old"}}, "InvalidParameterValue"),
        ("DescribeVoices", {"VoiceType": "cloned"}, "InvalidParameterValue"),
        ("DescribeVoices", {"Gender": "x"}, "InvalidParameterValue"),
        ("DescribeVoices", {"Languages": "en"}, "InvalidParameter"),
        ("DescribeVoices", {"Languages": [1]}, "InvalidParameter"),
        ("DescribeVoices", {"PageNum": 0}, "InvalidParameterValue"),
        ("DescribeVoices", {"PageNum": True}, "InvalidParameter"),
        ("DescribeVoices", {"PageSize": 10_000}, "InvalidParameterValue"),
        ("DesignVoiceAsync", {}, "MissingParameter"),
        ("DesignVoiceAsync", {"Prompt": " "}, "InvalidParameterValue"),
        ("DesignVoiceAsync", {"Prompt": "deep", "Text": "x" * 501}, "InvalidParameterValue"),
        ("DescribeDesignTask", {"TaskId": "none"}, "ResourceNotFound"),
        ("UpdateVoice", {"VoiceId": "none", "VoiceFields": {"Name": "x"}}, "ResourceNotFound"),
        ("UpdateVoice", {"VoiceId": "emulator-amy", "VoiceFields": {"Name": "x"}}, "UnsupportedOperation"),
        ("DeleteVoice", {"VoiceId": "none"}, "ResourceNotFound"),
        ("DeleteVoice", {"VoiceId": "emulator-amy"}, "UnsupportedOperation"),
    ],
)
def test_invalid_voice_request_gets_error_and_creates_nothing(only_system_voices, action, parameters, code):
    assert only_system_voices.code(action, parameters) == code
    assert list_voices(only_system_voices)["TotalCount"] == len(SYSTEM_VOICES)


def test_design_becomes_a_voice_when_it_succeeds(client):
    task_id = design(client, Text="Hello")["TaskId"]
    response = describe_design(client, task_id)
    assert (response["Status"], response["ErrorCode"]) == ("success", 0)
    assert plain_http.get(response["AudioUrl"]).content.startswith(b"RIFF")
    (voice,) = list_voices(client, VoiceType="design")["Voices"]
    assert (voice["VoiceId"], voice["Name"]) == (response["VoiceId"], "Deep")


def test_processing_design_has_no_voice_yet(start_emulator):
    client = Client(start_emulator(synthesis_time=60))
    response = describe_design(client, design(client)["TaskId"])
    assert (response["Status"], response["ErrorCode"], response["VoiceId"]) == ("processing", 100, None)
    assert names(client, VoiceType="design") == []


def test_design_with_fail_prefix_makes_no_voice(client):
    response = describe_design(client, design(client, "[fail] a deep voice", Text="Hello")["TaskId"])
    assert response["Status"] == "fail"
    assert response["ErrorCode"] not in (0, 100)
    assert (response["VoiceId"], response["AudioUrl"]) == (None, "")
    assert names(client, VoiceType="design") == []


def test_text_task_is_no_design_and_design_no_text_task(client):
    text = client.call("TextToSpeechAsync", {"Text": "hello", "VoiceId": "v"})["TaskId"]
    assert client.code("DescribeDesignTask", {"TaskId": text}) == "ResourceNotFound"
    designed = design(client)["TaskId"]
    assert client.code("DescribeTextToSpeechAsyncTask", {"TaskId": designed}) == "ResourceNotFound"


@pytest.mark.parametrize("kind", ["clone", "design"])
def test_updated_voice_keeps_its_other_fields(client, kind):
    voice_id = (
        clone(client)["VoiceId"] if kind == "clone" else describe_design(client, design(client)["TaskId"])["VoiceId"]
    )
    fields = {"Description": "tired", "Labels": ["low"]}
    changed = client.call("UpdateVoice", {"VoiceId": voice_id, "VoiceFields": fields})["Voice"]
    assert {name: changed[name] for name in fields} == fields
    assert changed["Name"] in ("Narrator", "Deep")
    assert list_voices(client, VoiceId=voice_id)["Voices"][0]["Labels"] == ["low"]


@pytest.mark.parametrize("kind", ["clone", "design"])
def test_deleted_voice_is_gone_for_lists_and_texts(client, kind):
    voice_id = (
        clone(client)["VoiceId"] if kind == "clone" else describe_design(client, design(client)["TaskId"])["VoiceId"]
    )
    text = {"Text": "hello", "VoiceId": voice_id}
    assert client.code(parameters=text) is None
    assert client.call("DeleteVoice", {"VoiceId": voice_id})["ErrorCode"] == 0
    assert list_voices(client)["TotalCount"] == len(SYSTEM_VOICES)
    assert client.code("DeleteVoice", {"VoiceId": voice_id}) == "ResourceNotFound"
    assert client.code(parameters=text) == "InvalidParameterValue"


def test_account_holds_one_hundred_clones_and_designs(client):
    task_id = design(client)["TaskId"]
    assert all("VoiceId" in clone(client) for _ in range(MAX_VOICES - 1))
    assert client.code("CloneVoice", SAMPLE) == "LimitExceeded"
    assert client.code("DesignVoiceAsync", {"Prompt": "deep"}) == "LimitExceeded"
    assert list_voices(client, VoiceType="clone")["TotalCount"] == MAX_VOICES - 1
    client.call("DeleteVoice", {"VoiceId": describe_design(client, task_id)["VoiceId"]})
    assert clone(client)["VoiceId"]


def test_unfinished_designs_count_towards_the_limit(start_emulator):
    client = Client(start_emulator(synthesis_time=60, rate_limit=1000))
    assert all(design(client)["TaskId"] for _ in range(MAX_VOICES))
    assert client.code("CloneVoice", SAMPLE) == "LimitExceeded"


def test_voices_do_not_wait_for_submitted_texts(start_emulator, monkeypatch):
    may_end, speak = threading.Event(), tasks.speak

    def speak_long(text, *arguments, **options):
        assert text != "a long story" or may_end.wait(60)
        return speak(text, *arguments, **options)

    monkeypatch.setattr(tasks, "speak", speak_long)
    client = Client(start_emulator(synthesis_time=0.001))
    client.call("TextToSpeechAsync", {"Text": "a long story", "VoiceId": "v"})
    try:
        assert list_voices(client)["TotalCount"] == len(SYSTEM_VOICES)
        assert clone(client, Text="Hello")["AudioData"]
        assert design(client)["TaskId"]
        assert list_voices(client, VoiceType="design")["TotalCount"] == 0
    finally:
        may_end.set()
