import dataclasses
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mps.api.voice_actions import (
    CLONE_TIMEOUT_SECONDS,
    MAX_PAGES,
    ClonedVoice,
    VoiceListing,
    make_clone_call,
    make_delete_call,
    make_describe_design_call,
    make_submit_design_call,
    make_update_call,
)
from airflow_provider_mps.error_codes import ErrorClass
from airflow_provider_mps.exceptions import InvalidRequestError, MpsApiError, MpsPermanentError
from airflow_provider_mps.speech.audio_sample import AudioSample
from airflow_provider_mps.speech.voices import CloneRequest, Voice, VoiceDesignRequest

CLONE = CloneRequest(AudioSample(url="https://a/b.wav?sign=SECRET"), {"Name": "Me"}, "en", "Hello")
DESIGN = VoiceDesignRequest("deep", {"Name": "Me"}, "Hello")


class VoiceServer:
    """Describes voices page by page, as :class:`VoiceListing` asks for them, and counts the pages."""

    def __init__(self, count, *, total=True, respects_page=True, max_size=1000):
        self.items = [{"VoiceId": f"v-{number}"} for number in range(count)]
        self.total = len(self.items) if total is True else total
        self.respects_page = respects_page
        self.max_size = max_size
        self.pages = 0

    def respond(self, params):
        self.pages += 1
        size = min(params["PageSize"], self.max_size)
        first = (params["PageNum"] - 1) * size if self.respects_page else 0
        return {"ErrorCode": 0, "TotalCount": self.total, "Voices": self.items[first : first + size]}


def collect(server, **filters):
    listing = VoiceListing(**filters)
    while (call := listing.next_call()) is not None:
        listing.add(call.parse(server.respond(call.params)))
    return [voice.voice_id for voice in listing.voices]


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (99, 1), (100, 1), (101, 2), (250, 3)])
def test_listing_returns_all_voices_of_all_pages(count, pages):
    server = VoiceServer(count)
    assert collect(server) == [f"v-{number}" for number in range(count)]
    assert server.pages == pages


@pytest.mark.parametrize("total", [None, "250", 1.5])
@pytest.mark.parametrize("count", [0, 1, 100, 250])
def test_listing_without_usable_total_reads_to_the_end(count, total):
    assert len(collect(VoiceServer(count, total=total))) == count


@pytest.mark.parametrize("total", [True, None, 10_000])
def test_listing_ends_if_server_repeats_a_page(total):
    server = VoiceServer(100, total=total, respects_page=False)
    assert len(collect(server)) == 100
    assert server.pages <= 2


def test_listing_ends_if_total_is_never_reached():
    server = VoiceServer(150, total=10_000)
    assert len(collect(server)) == 150
    assert server.pages == 3


def test_listing_reads_smaller_pages_than_requested():
    assert len(collect(VoiceServer(250, max_size=20))) == 250


def test_listing_of_server_without_paging_ends():
    server = VoiceServer(250, respects_page=False)
    listing = VoiceListing()
    call = listing.next_call()
    listing.add(call.parse({"TotalCount": 250, "Voices": server.items}))
    assert len(listing.voices) == 250
    assert listing.next_call() is None


def test_listing_of_endless_voices_ends():
    listing, pages = VoiceListing(), 0
    while (call := listing.next_call()) is not None:
        pages += 1
        listing.add(call.parse({"Voices": [{"VoiceId": f"v-{pages}"}]}))
    assert pages == MAX_PAGES


def test_listing_counts_items_without_id_but_leaves_them_out():
    listing = VoiceListing()
    listing.add(listing.next_call().parse({"TotalCount": 3, "Voices": [{"VoiceId": "v"}, {}, None]}))
    assert [voice.voice_id for voice in listing.voices] == ["v"]
    assert listing.next_call() is None


def test_listing_sends_only_given_filters():
    call = VoiceListing("clone", name="Me", labels="calm,deep", gender="", age=None).next_call()
    assert call.params == {
        "VoiceType": "clone",
        "VoiceName": "Me",
        "Labels": ["calm", "deep"],
        "PageNum": 1,
        "PageSize": 100,
    }
    assert VoiceListing(voice_id=" v ").next_call().params["VoiceId"] == "v"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"voice_type": "cloned"}, "voice_type must be one of system, clone, design, all, not 'cloned'"),
        ({"voice_id": ""}, "voice_id is empty"),
        ({"gender": "x"}, "gender must be one of"),
        ({"color": "x"}, "no field 'color'"),
    ],
)
def test_listing_with_invalid_filter_raises(arguments, message):
    with pytest.raises(InvalidRequestError, match=message):
        VoiceListing(**arguments)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["VoiceId", "Name", "Labels", "duration"]), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = ("ErrorCode", "Msg", "TotalCount", "Voices", "Voice", "VoiceId", "AudioUrl", "ExtInfo", "TaskId", "Status")


@given(st.dictionaries(st.sampled_from(NAMES), json_values))
def test_any_response_is_parsed_or_raises_api_error(response):
    calls = [VoiceListing().next_call(), make_clone_call(CLONE), make_submit_design_call(DESIGN)]
    calls += [make_describe_design_call("t"), make_update_call("v", name="x"), make_delete_call("v")]
    for call in calls:
        with suppress(MpsApiError):
            call.parse(response)


def test_clone_call_requests_trial_audio_as_url():
    call = make_clone_call(CLONE)
    assert call.params == {
        "AudioUrl": "https://a/b.wav?sign=SECRET",
        "VoiceProfile": {"Name": "Me"},
        "AudioLang": "en",
        "Text": "Hello",
        "Output": {"Type": "url"},
    }
    assert call.timeout == CLONE_TIMEOUT_SECONDS


def test_clone_call_without_options_leaves_them_out():
    call = make_clone_call(dataclasses.replace(CLONE, audio_lang=None, trial_text=None))
    assert call.params.keys() == {"AudioUrl", "VoiceProfile", "Output"}


def test_clone_response_is_parsed():
    parse = make_clone_call(CLONE).parse
    response = {"VoiceId": " v ", "AudioUrl": "https://a/?sign=SECRET", "ExtInfo": '{"duration":1.5}', "RequestId": "r"}
    assert parse(response) == ClonedVoice("v", "https://a/?sign=SECRET", "r", 1.5)
    assert "SECRET" not in repr(parse(response))
    assert parse({"VoiceId": "v", "AudioUrl": "", "ExtInfo": ""}) == ClonedVoice("v")


def test_clone_with_id_exists_whatever_error_code_says():
    assert make_clone_call(CLONE).parse({"ErrorCode": 5, "VoiceId": "v"}).voice_id == "v"


def test_clone_with_error_code_is_rejected():
    with pytest.raises(
        MpsPermanentError, match=r"SubmitRejected.*ErrorCode 5 and Msg 'too noisy'.*nothing was accepted"
    ):
        make_clone_call(CLONE).parse({"ErrorCode": 5, "Msg": "too noisy"})


@pytest.mark.parametrize("response", [{}, {"ErrorCode": 0, "VoiceId": ""}, {"VoiceId": 5}, {"ErrorCode": None}])
def test_clone_response_without_id_is_unknown_outcome(response):
    with pytest.raises(MpsApiError, match="no VoiceId") as caught:
        make_clone_call(CLONE).parse(response)
    assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN


@pytest.mark.parametrize(
    "call",
    [VoiceListing().next_call(), make_update_call("v", name="x"), make_delete_call("v")],
    ids=lambda call: call.action,
)
def test_error_code_of_other_calls_is_rejection(call):
    with pytest.raises(MpsPermanentError, match=r"RequestRejected.*ErrorCode 7 and Msg 'no'"):
        call.parse({"ErrorCode": 7, "Msg": "no"})


def test_message_of_rejection_is_redacted():
    with pytest.raises(MpsApiError) as caught:
        make_clone_call(CLONE).parse({"ErrorCode": 5, "Msg": "cannot read https://a/b.wav?q-signature=SECRET"})
    assert "SECRET" not in str(caught.value)
    assert "https://a/b.wav" in str(caught.value)


def test_update_returns_changed_voice_or_its_id():
    call = make_update_call(" v ", name="You", labels=["a"])
    assert call.params == {"VoiceId": "v", "VoiceFields": {"Name": "You", "Labels": ["a"]}}
    assert call.parse({"ErrorCode": 0, "Voice": {"VoiceId": "v", "Name": "You"}}) == Voice("v", "You")
    assert call.parse({}) == Voice("v")


@pytest.mark.parametrize("fields", [{}, {"name": None, "labels": []}])
def test_update_without_changes_raises(fields):
    with pytest.raises(InvalidRequestError, match="Nothing to change of voice 'v'"):
        make_update_call("v", **fields)


def test_delete_takes_a_voice_id():
    assert make_delete_call(" v ").params == {"VoiceId": "v"}
    with pytest.raises(InvalidRequestError, match="voice_id is 'None'"):
        make_delete_call("None")


CALLS = [
    *(VoiceListing().next_call(), make_clone_call(CLONE), make_submit_design_call(DESIGN)),
    *(make_describe_design_call("t"), make_update_call("v", name="x"), make_delete_call("v")),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.action)
def test_only_calls_that_make_voices_are_not_retried_blindly(call):
    makes_a_voice = call.action in {"CloneVoice", "DesignVoiceAsync"}
    assert call.should_retry(ErrorClass.OUTCOME_UNKNOWN) is not makes_a_voice
    assert call.should_retry(ErrorClass.THROTTLED)
    assert call.should_retry(ErrorClass.NOT_SENT)
    assert not call.should_retry(ErrorClass.PERMANENT)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.action)
def test_repr_of_calls_hides_parameters(call):
    assert "SECRET" not in repr(call)
    assert "Hello" not in repr(call)


def test_listing_of_overlapping_pages_is_complete():
    listing = VoiceListing()
    while (call := listing.next_call()) is not None:
        start = (call.params["PageNum"] - 1) * 50
        items = [{"VoiceId": f"v-{number}"} for number in range(start, min(start + 100, 180))]
        listing.add(call.parse({"Voices": items, "TotalCount": 180}))
    assert len(listing.voices) == 180


@pytest.mark.parametrize("voices", [{}, "none", 0, {"VoiceId": "v-1"}])
def test_listing_without_list_is_invalid_response(voices):
    with pytest.raises(MpsApiError, match="no list of voices") as caught:
        VoiceListing().next_call().parse({"Voices": voices, "TotalCount": 1})
    assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN
