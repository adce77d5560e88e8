import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from airflow.providers.common.compat.sdk import AirflowFailException, Asset, AssetAlias

from airflow_provider_mps.batch.track import assemble
from airflow_provider_mps.exceptions import (
    AudioTransferError,
    AudioTransferStopped,
    DestinationError,
    InvalidRequestError,
)
from airflow_provider_mps.operators.track import AssembleTrackOperator
from airflow_provider_mps.speech.request import hash_text
from tests.batching import context
from tests.tracks import RATE, FinishedBatch, encode, tone


@pytest.fixture
def batch(tmp_path):
    return FinishedBatch(tmp_path / "clips")


@pytest.fixture
def two_clips(batch):
    batch.add(tone(1, 100))
    batch.add(tone(2, 200))
    batch.write()
    return batch


def test_clips_follow_one_another(two_clips):
    samples = two_clips.assemble(gap="0.5")
    assert np.array_equal(samples, np.concatenate([tone(1, 100), tone(0.5, 0), tone(2, 200)]))
    assert two_clips.xcoms == {"VoiceId": "voice-1", "duration": 3.5}


def test_results_may_be_folder_or_output_of_batch(two_clips):
    for results in (f"{two_clips.folder}/", str(two_clips.folder), {"results": f"{two_clips.folder}/results.jsonl"}):
        assert len(two_clips.assemble(results=results)) == 3 * RATE


def test_order_is_of_lines_in_manifest(batch):
    batch.add(tone(1, 100), line=2)
    batch.add(tone(1, 200), line=1)
    batch.write()
    assert np.array_equal(batch.assemble(), np.concatenate([tone(1, 200), tone(1, 100)]))


def test_order_on_timeline_is_of_starts(batch):
    batch.add(tone(1, 100), start=3.0)
    batch.add(tone(1, 200), start=1.0)
    batch.write()
    expected = [tone(1, 0), tone(1, 200), tone(1, 0), tone(1, 100)]
    assert np.array_equal(batch.assemble(), np.concatenate(expected))


def test_missing_line_stays_silent_on_timeline(batch):
    batch.add(tone(1, 100), start=0.0, end=1.0)
    batch.add(None, start=1.0, end=2.0)
    batch.add(tone(1, 300), start=2.0, end=3.0)
    batch.add(None, start=3.0, end=5.0)
    batch.write()
    expected = [tone(1, 100), tone(1, 0), tone(1, 300), tone(2, 0)]
    assert np.array_equal(batch.assemble(on_missing="silence"), np.concatenate(expected))


def test_missing_line_takes_no_time_one_after_another(batch):
    batch.add(tone(1, 100))
    batch.add(None)
    batch.add(tone(1, 300))
    batch.write()
    assert len(batch.assemble(on_missing="silence", gap=1)) == 3 * RATE


def test_missing_lines_fail_before_any_work(two_clips):
    two_clips.add(None)
    two_clips.write()
    with pytest.raises(AirflowFailException, match=r"1 of 3 lines have no audio: clip-0003\. Nothing was assembled"):
        two_clips.assemble()
    assert not two_clips.track_path.exists()


def test_removed_clip_is_missing(two_clips):
    (two_clips.folder / "clip-0002.wav").unlink()
    message = (
        r"1 of 2 lines have no audio: clip-0002\. .* set the status of clip-0002 in .*results.jsonl to store_failed"
    )
    with pytest.raises(AirflowFailException, match=message):
        two_clips.assemble()
    assert len(two_clips.assemble(on_missing="silence")) == RATE


def test_unfinished_batch_has_missing_lines(two_clips):
    two_clips.write(finished=False, lines=5)
    with pytest.raises(AirflowFailException, match=r"3 of 5 lines have no audio: they are not submitted yet"):
        two_clips.assemble()


def test_row_of_earlier_manifest_is_ignored(two_clips):
    two_clips.add(tone(1, 300), line=None)
    two_clips.write()
    assert len(two_clips.assemble()) == 3 * RATE


def test_batch_without_audio_is_rejected(batch):
    batch.add(None)
    batch.write()
    with pytest.raises(InvalidRequestError, match=r"No line of .* has stored audio"):
        batch.assemble(on_missing="silence")


@pytest.mark.parametrize("changed", [tone(1, 101), tone(1.5, 100)])
def test_changed_clip_is_named_and_track_stays(two_clips, changed):
    two_clips.assemble()
    before = two_clips.track_path.read_bytes()
    (two_clips.folder / "clip-0002.wav").write_bytes(encode(changed))
    with pytest.raises(AirflowFailException, match=r"clip of line clip-0002 .* is not the one that the batch has"):
        two_clips.assemble()
    assert two_clips.track_path.read_bytes() == before


def test_several_sample_rates_need_one_chosen(two_clips):
    two_clips.add(tone(1, 300, 8000), rate=8000)
    two_clips.write()
    with pytest.raises(
        InvalidRequestError, match=r"line clip-0001 has 16000 Hz, and line clip-0003 has 8000 Hz\. .*Set sample_rate"
    ):
        two_clips.assemble()
    assert len(two_clips.assemble(sample_rate="16000")) == 4 * RATE


def test_several_voices_push_none(two_clips):
    two_clips.add(tone(1, 300), VoiceId="voice-2")
    two_clips.write()
    two_clips.assemble()
    assert two_clips.xcoms["VoiceId"] is None


def test_overlap_fail_stores_nothing(batch):
    batch.add(tone(2, 100), start=0.0)
    batch.add(tone(1, 200), start=1.0)
    batch.write()
    with pytest.raises(AirflowFailException, match=r"clip-0001 ends 1\.000 s after clip-0002 begins"):
        batch.assemble(overlap="fail")
    assert not batch.track_path.exists()
    assert len(batch.assemble(overlap="cut")) == 2 * RATE
    assert len(batch.assemble(overlap="shift")) == 3 * RATE


def test_subtitles_have_times_of_audio(two_clips):
    two_clips.assemble(gap=1, subtitles=f"{two_clips.folder}/out/track.srt")
    assert (two_clips.folder / "out" / "track.srt").read_text() == (
        "1\n00:00:00,000 --> 00:00:01,000\nThis is line 1.\n\n2\n00:00:02,000 --> 00:00:04,000\nThis is line 2.\n\n"
    )
    assert two_clips.xcoms["subtitles"] == f"{two_clips.folder}/out/track.srt"


def test_changed_manifest_fails_before_work(two_clips):
    (two_clips.folder / "manifest.jsonl").write_text(json.dumps({"id": "clip-0001", "text": "Another."}) + "\n")
    with pytest.raises(AirflowFailException, match="the manifest has changed since the batch"):
        two_clips.assemble(subtitles=f"{two_clips.folder}/track.srt")
    assert not two_clips.track_path.exists()


@pytest.mark.parametrize("existing", ["track.wav", "track.srt"])
def test_if_exists_fail_keeps_file(two_clips, existing):
    file = two_clips.folder / existing
    file.write_bytes(b"older")
    with pytest.raises(DestinationError, match="exists already"):
        two_clips.assemble(
            destination=f"{two_clips.folder}/track.wav", subtitles=f"{two_clips.folder}/track.srt", if_exists="fail"
        )
    assert file.read_bytes() == b"older"
    file.unlink()
    two_clips.assemble(
        destination=f"{two_clips.folder}/track.wav", subtitles=f"{two_clips.folder}/track.srt", if_exists="fail"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"destination": "file:///data/track.ogg"}, r"must name a file that ends in \.wav, \.flac, \.mp3"),
        ({"destination": "file:///data/tracks/"}, "must name a file"),
        ({"destination": "track.wav"}, "destination is 'track.wav'"),
        ({"destination": "file:///data/t.mp3", "sample_rate": 96_000}, "An MP3 cannot have 96000 Hz"),
        ({"sample_rate": 7999}, "sample_rate must be a whole number from 8000"),
        ({"sample_rate": "fast"}, "sample_rate must be"),
        ({"sample_rate": True}, "sample_rate must be"),
        ({"gap": -1}, "gap must be a number of seconds from 0"),
        ({"gap": "nan"}, "gap must be"),
        ({"timeline": "maybe"}, "timeline must be True, False or None"),
        ({"overlap": "mix"}, "overlap must be one of shift, cut, fail"),
        ({"on_missing": "skip"}, "on_missing must be one of fail, silence"),
        ({"if_exists": "skip"}, "if_exists must be 'overwrite' or 'fail'"),
        ({"if_exists": ["fail"]}, "if_exists must be 'overwrite' or 'fail'"),
        ({"subtitles": "file:///data/track.txt"}, r"ends in \.srt or \.vtt"),
        ({"transfer_timeout": 0}, "transfer_timeout must be"),
        ({"results": {"lines": 3}}, "results is"),
        ({"results": {"dry_run": True, "lines": 3}}, "results is the report of a dry run"),
        ({"results": "file:///nowhere/results.jsonl"}, "There is no file:///nowhere/results.jsonl"),
    ],
)
def test_invalid_argument_is_rejected(two_clips, arguments, message):
    with pytest.raises(InvalidRequestError, match=message):
        two_clips.assemble(**arguments)


@pytest.mark.parametrize("name", ["gap", "sample_rate", "timeline", "subtitles", "manifest", "subtitle_encoding"])
@pytest.mark.parametrize("value", ["", " "])
def test_argument_that_a_template_left_empty_is_not_given(two_clips, name, value):
    assert len(two_clips.assemble(**{name: value})) == 3 * RATE


@pytest.mark.parametrize("path", ["", "clips/a.wav", "nowhere://a/b.wav"])
def test_row_whose_path_was_edited_is_named(two_clips, path):
    two_clips.rows[1]["path"] = path
    two_clips.write()
    with pytest.raises(InvalidRequestError, match=r"The path of line clip-0002 in .* is '.*', which is not one"):
        two_clips.assemble()


@pytest.mark.parametrize("summary", [{"lines": "many"}, {"lines": None}, {"lines": 2.5}, {"manifest": 5}])
def test_edited_summary_is_ignored(two_clips, summary):
    two_clips.write(**{"finished": False, **summary})
    assert len(two_clips.assemble()) == 3 * RATE


@pytest.mark.parametrize("manifest", [5, "", "manifest.jsonl", "nowhere://a/b"])
def test_summary_without_manifest_names_the_argument(two_clips, manifest):
    two_clips.write(manifest=manifest)
    with pytest.raises(InvalidRequestError, match=r"its summary\.json names no manifest"):
        two_clips.assemble(subtitles=f"{two_clips.folder}/track.srt")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_clips_without_samples_make_no_track(batch, suffix):
    batch.add(tone(0))
    batch.add(tone(0))
    batch.write()
    with pytest.raises(AirflowFailException, match=r"The clips of all lines in .* are empty"):
        batch.assemble(destination=f"{batch.folder}/track.{suffix}")


def test_silence_that_disk_cannot_hold_is_not_written(batch, monkeypatch):
    batch.add(tone(1, 100), start=0.0)
    batch.add(tone(1, 100), start=100 * 3600.0)
    batch.write()
    written = []
    full = SimpleNamespace(f_bavail=100, f_frsize=1024 * 1024)
    monkeypatch.setattr("airflow_provider_mps.batch.track.audio.os.fstatvfs", lambda _: full)
    monkeypatch.setattr(
        "airflow_provider_mps.batch.track.audio.Track.write", lambda _, block: written.append(len(block))
    )
    with pytest.raises(AudioTransferError, match=r"The temporary folder .* is full"):
        batch.assemble()
    assert sum(written) == RATE


def test_hours_of_silence_are_logged(batch, monkeypatch, capsys):
    monkeypatch.setattr(assemble, "LOG_INTERVAL_SECONDS", 0)
    batch.add(tone(1, 100), start=0.0)
    batch.add(tone(1, 100), start=2 * 3600.0)
    batch.write()
    batch.assemble(destination=f"{batch.folder}/track.flac")
    printed = capsys.readouterr().out
    assert "The track has 1:59:59 of silence before line clip-0002" in printed
    assert "1 of 2 clips, 1:3" in printed


@pytest.mark.parametrize("arguments", [{}, {"subtitle_encoding": "gb18030"}])
def test_manifest_is_read_in_the_encoding_of_the_batch(batch, arguments):
    text = "早上好"
    batch.add(tone(1), id="cue-00001", text_hash=hash_text(text), start=1.0, end=2.0)
    manifest = batch.folder / "film.srt"
    manifest.write_bytes(f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n".encode("gb18030"))
    batch.write(manifest=str(manifest), **({} if arguments else {"subtitle_encoding": "gb18030"}))
    batch.assemble(subtitles=f"{batch.folder}/track.vtt", **arguments)
    assert (batch.folder / "track.vtt").read_text() == f"WEBVTT\n\n1\n00:00:01.000 --> 00:00:02.000\n{text}\n\n"


def test_destination_must_not_replace_input(two_clips):
    clip = f"{two_clips.folder}/clip-0001.wav"
    with pytest.raises(InvalidRequestError, match="the clip of line clip-0001"):
        two_clips.assemble(destination=clip)
    with pytest.raises(InvalidRequestError, match="subtitles and manifest are the same file"):
        two_clips.assemble(subtitles=f"{two_clips.folder}/a.srt", manifest=f"{two_clips.folder}/./a.srt")


def test_subtitles_must_not_replace_manifest(two_clips):
    manifest = two_clips.folder / "film.vtt"
    manifest.write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nHello.\n")
    two_clips.write(manifest=str(manifest))
    with pytest.raises(InvalidRequestError, match=r"film\.vtt, the manifest of the batch: nothing was assembled"):
        two_clips.assemble(subtitles=f"{two_clips.folder}/./film.vtt", manifest=f"{two_clips.folder}/manifest.jsonl")
    assert "Hello." in manifest.read_text()
    assert not two_clips.track_path.exists()


def test_file_that_is_no_result_manifest_is_rejected(two_clips):
    (two_clips.folder / "results.jsonl").write_text("{}\n")
    with pytest.raises(InvalidRequestError, match="is not a result manifest of a batch"):
        two_clips.assemble()


def test_cancelled_task_does_not_assemble(two_clips, monkeypatch):
    operator = AssembleTrackOperator(
        task_id="track", results=str(two_clips.folder), destination=str(two_clips.track_path)
    )
    monkeypatch.setattr(assemble, "ClipReader", lambda *_: operator.on_kill())
    with pytest.raises(AudioTransferStopped, match=r"Assembling the track at .* was stopped by Airflow"):
        operator.execute(context())
    assert not two_clips.track_path.exists()


def test_asset_events_and_lineage(two_clips):
    asset, alias = Asset("s3://bucket/known"), AssetAlias("tracks")
    operator = AssembleTrackOperator(
        task_id="track",
        results=str(two_clips.folder),
        destination=str(two_clips.track_path),
        subtitles=f"{two_clips.folder}/out/track.srt",
        outlets=[asset, alias],
    )
    events = {asset: _Event(), alias: _Event()}
    path = operator.execute({**context(), "outlet_events": events})
    assert events[asset].extra["clips"] == 2
    assert events[asset].extra["duration"] == 3.0
    assert events[alias].added[0].uri == path
    lineage = operator.get_openlineage_facets_on_complete(None)
    assert [one.name for one in lineage.inputs] == [f"{two_clips.folder.path}/results.jsonl"]
    assert [one.name for one in lineage.outputs] == [
        f"{two_clips.folder.path}/out/track.wav",
        f"{two_clips.folder.path}/out/track.srt",
    ]


class _Event:
    def __init__(self):
        self.extra = {}
        self.added = []

    def add(self, asset, extra):
        self.added.append(asset)
        self.extra |= extra


@pytest.mark.parametrize("package", ["numpy", "soundfile", "soxr"])
def test_missing_package_is_an_error_with_the_extra(two_clips, monkeypatch, package):
    monkeypatch.delitem(sys.modules, "airflow_provider_mps.batch.track.audio", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidRequestError, match=r"Install airflow-provider-mps\[track\]"):
        two_clips.assemble()
    assert not two_clips.track_path.exists()


def test_libsndfile_without_mp3_is_an_error_before_any_work(two_clips, monkeypatch):
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"FLAC": "FLAC"})
    with pytest.raises(InvalidRequestError, match="cannot write MP3"):
        two_clips.assemble(destination=f"{two_clips.folder}/track.mp3")
    assert not (two_clips.folder / "track.mp3").exists()
