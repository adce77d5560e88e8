"""A batch on the emulator, and the track of its clips, on disk and in a real S3 server."""

import json

import numpy as np
import pysubs2
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath

from airflow_provider_mps.batch.track import clips as clips_module
from airflow_provider_mps.exceptions import AudioTransferError, DestinationError
from airflow_provider_mps.operators.track import AssembleTrackOperator
from tests.batching import context, line, run_batch
from tests.faulty_s3 import FaultyS3
from tests.tracks import FinishedBatch, decode, encode, tone

STARTS = (0.5, 6.0, 20.0)


def assemble(results, destination, **arguments):
    airflow = context()
    operator = AssembleTrackOperator(task_id="track", results=results, destination=destination, **arguments)
    return ObjectStoragePath(operator.execute(airflow)).read_bytes(), airflow["ti"].xcoms


@pytest.fixture(params=["file", "s3"])
def folder(request):
    """The destination of a batch."""
    return request.getfixturevalue("clips" if request.param == "file" else "s3_clips")


def read_clips(folder):
    return [decode(ObjectStoragePath(row["path"]).read_bytes()) for row in folder.rows()]


def test_plain_batch_becomes_one_track_with_subtitles(app, manifest, folder):
    outcome = run_batch(manifest(3), folder.destination)
    vtt = f"{folder.destination}track.vtt"
    content, xcoms = assemble(outcome, f"{folder.destination}track.wav", gap=0.25, subtitles=vtt)
    first, *others = read_clips(folder)
    rate = 16_000
    expected = [first]
    for clip in others:
        expected += [np.zeros(rate // 4, np.int16), clip]
    assert np.array_equal(decode(content), np.concatenate(expected))
    assert xcoms["duration"] == pytest.approx(sum(map(len, expected)) / rate)
    assert xcoms["VoiceId"] == "voice-1"
    events = pysubs2.SSAFile.from_string(ObjectStoragePath(vtt).read_text())
    assert [event.plaintext for event in events] == [f"This is line {number}." for number in range(3)]
    begin = 0
    for event, clip in zip(events, [first, *others], strict=True):
        assert (event.start, event.end) == (round(begin / 16), round((begin + len(clip)) / 16))
        begin += len(clip) + rate // 4


def test_clips_begin_at_their_cues(app, manifest, folder):
    lines = [line(number, start=start, end=start + 1) for number, start in enumerate(STARTS)]
    outcome = run_batch(manifest(lines), folder.destination)
    content, _ = assemble(outcome["results"], f"{folder.destination}out/track.flac", overlap="fail")
    samples = decode(content)
    for start, clip in zip(STARTS, read_clips(folder), strict=True):
        begin = round(start * 16_000)
        assert np.array_equal(samples[begin : begin + len(clip)], clip)
        assert not samples[begin - 8_000 : begin].any()


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [("gb18030", "gb18030"), ("utf-8-sig", None), ("utf-16", None), ("utf-16-le", None), ("utf-32", None)],
)
def test_subtitles_of_any_encoding_are_read_again(app, tmp_path, clips, encoding, declared):
    film = tmp_path / "film.srt"
    film.write_bytes("1\n00:00:01,000 --> 00:00:02,500\n你好，世界。\n".encode(encoding))
    outcome = run_batch(f"file://{film}", clips.destination, voice_id="voice-1", subtitle_encoding=declared)
    srt = f"{clips.destination}track.srt"
    assemble(outcome, f"{clips.destination}track.wav", subtitles=srt)
    (event,) = pysubs2.SSAFile.from_string(ObjectStoragePath(srt).read_text())
    assert (event.start, event.plaintext) == (1000, "你好，世界。")


def test_line_without_audio_stays_silent(app, manifest, clips):
    lines = [line(0, start=0), line(1, text="[fail] 3", start=5), line(2, start=10)]
    run_batch(manifest(lines), clips.destination, on_line_failure="continue")
    results = f"{clips.destination}results.jsonl"
    with pytest.raises(AirflowFailException, match=r"1 of 3 lines have no audio: clip-0001\."):
        assemble(results, f"{clips.destination}track.wav")
    content, _ = assemble(results, f"{clips.destination}track.wav", on_missing="silence")
    assert not decode(content)[5 * 16_000 : 10 * 16_000].any()


def test_clips_in_s3_are_verified_and_missing_ones_listed(s3):
    batch = FinishedBatch(ObjectStoragePath(f"{s3.root}finished"))
    batch.add(tone(1, 100))
    batch.add(encode(tone(1, 200, 24_000), 24_000, "MP3"), ".mp3")
    batch.write()
    assert len(batch.assemble(sample_rate=24_000)) == 48_000
    client = s3.client()
    client.put_object(Bucket="clips", Key="finished/clip-0001.wav", Body=encode(tone(1, 101)))
    with pytest.raises(AirflowFailException, match=r"clip-0001 at .* is not the one that the batch has stored"):
        batch.assemble(sample_rate=24_000)
    client.delete_object(Bucket="clips", Key="finished/clip-0001.wav")
    with pytest.raises(AirflowFailException, match=r"1 of 2 lines have no audio: clip-0001\."):
        batch.assemble(sample_rate=24_000)
    assert len(batch.assemble(on_missing="silence")) == 24_000
    assert len(s3.client().list_objects_v2(Bucket="clips", Prefix="finished/out/")["Contents"]) == 1


@pytest.fixture
def cut_clips(s3, monkeypatch):
    """Make a finished batch in S3, of which a function cuts so many responses short."""
    with FaultyS3(s3.port) as proxy:
        conn_id = f"s3_{proxy.port}"
        connection = s3.connection(url=proxy.url)
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
        batch = FinishedBatch(ObjectStoragePath(f"s3://{conn_id}@clips/finished"))
        for _ in range(6):
            batch.add(tone(1, 100))
        batch.write()
        forward, left = proxy._forward, []

        def cut(request, body):
            response = forward(request, body)
            if request.head[0].startswith(b"GET /clips/finished/clip-0003.wav") and left:
                left.pop()
                return response[: len(response) // 2]
            return response

        monkeypatch.setattr(proxy, "_forward", cut)
        monkeypatch.setattr(clips_module, "READ_PAUSE_SECONDS", 0.01)
        yield batch, left.extend


def test_clip_is_read_again_after_broken_connection(cut_clips):
    batch, cut_responses = cut_clips
    cut_responses(range(2))
    assert np.array_equal(batch.assemble(), tone(6, 100))
    cut_responses(range(3))
    with pytest.raises(AudioTransferError, match=r"^s3://.*clip-0003\.wav could not be read: "):
        batch.assemble()


def test_if_exists_fail_keeps_track_in_s3(s3):
    batch = FinishedBatch(ObjectStoragePath(f"{s3.root}finished"))
    batch.add(tone(1, 100))
    batch.write()
    batch.assemble(if_exists="fail")
    with pytest.raises(DestinationError, match="exists already"):
        batch.assemble(if_exists="fail")


def test_changed_manifest_writes_no_subtitles(app, manifest, clips):
    run_batch(manifest(1), clips.destination)
    changed = manifest([line(0, text="Another text.")])
    with pytest.raises(AirflowFailException, match="the manifest has changed since the batch"):
        assemble(clips.destination, f"{clips.destination}track.wav", subtitles=f"{clips.destination}track.srt")
    assert json.loads(ObjectStoragePath(changed).read_text())["text"] == "Another text."
    assert not (clips.root / "track.wav").exists()


def test_subtitles_in_other_encoding_become_track_and_subtitles(app, clips, tmp_path):
    cues = "1\n00:00:01,000 --> 00:00:02,000\n<i>语音。</i>\n\n2\n00:00:05,250 --> 00:00:06,000\n合成。\n"
    (tmp_path / "film.srt").write_bytes(cues.encode("gb18030"))
    outcome = run_batch(
        f"file://{tmp_path}/film.srt", clips.destination, voice_id="voice-1", subtitle_encoding="gb18030"
    )
    srt = f"{clips.destination}spoken.srt"
    content, _ = assemble(outcome, f"{clips.destination}film.mp3", subtitles=srt, sample_rate=24_000)
    events = pysubs2.SSAFile.from_string(ObjectStoragePath(srt).read_text())
    assert [(event.start, event.plaintext) for event in events] == [(1000, "语音。"), (5250, "合成。")]
    assert not decode(content)[: 24_000 - 2_400].any()
