import sys
import time

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch import subtitles
from airflow_provider_mps.batch.line import InvalidLine, LineDefaults, ManifestLine
from airflow_provider_mps.batch.manifest import read_manifest
from airflow_provider_mps.exceptions import InvalidRequestError

SRT = "1\n00:00:01,000 --> 00:00:02,500\nHello\n\n2\n00:00:03,000 --> 00:00:04,000\nworld\n"
VTT = "WEBVTT\n\n00:01.000 --> 00:02.500\nHello\n\n00:03.000 --> 00:04.000\nworld\n"


@pytest.fixture
def read(tmp_path):
    """Write a subtitle file, and read its lines and statistics."""

    def read(content, name="m.srt", encoding=None):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        read.statistics = []
        return list(read_manifest(ObjectStoragePath(f"file://{tmp_path}/{name}"), encoding, read.statistics.append))

    return read


def texts(lines):
    return [line.fields["text"] if isinstance(line, ManifestLine) else line.error for line in lines]


def summarize(lines):
    return [(line.id, line.fields["text"], line.start, line.end) for line in lines]


def valid(lines):
    return [line for line in lines if isinstance(line, ManifestLine)]


def errors(lines):
    return {line.number: line.error for line in lines if isinstance(line, InvalidLine)}


TWO_CUES = [("cue-00001", "Hello", 1.0, 2.5), ("cue-00002", "world", 3.0, 4.0)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize(("name", "content"), [("m.srt", SRT), ("m.VTT", VTT), ("m.SRT", VTT)])
def test_cues_become_lines_with_times(read, name, content, end):
    lines = read(content.replace("\n", end).encode(), name)
    assert summarize(lines) == TWO_CUES
    assert [line.number for line in lines] == ([2, 6] if content is SRT else [3, 6])


@pytest.mark.parametrize("header", ["WEBVTT\n", "WEBVTT - a --> b\nKind: captions\n"])
def test_cue_right_after_webvtt_header_is_read(read, header):
    lines = read(header + VTT.removeprefix("WEBVTT\n\n"), "m.vtt")
    assert summarize(lines) == TWO_CUES
    assert [line.number for line in lines] == [header.count("\n") + 1, header.count("\n") + 4]
    assert [line.id for line in read(f"{header}7\n00:01.000 --> 00:02.000\nHi\n", "m.vtt")] == ["cue-00007"]


def test_statistics_name_encoding_and_cues(read):
    read(SRT.replace("world", "<i> </i>").encode("utf-16"))
    (statistics,) = read.statistics
    assert (statistics.encoding, statistics.cues, statistics.empty_cues) == ("utf-16", 2, 1)
    assert statistics.has_own_ids


@pytest.mark.parametrize("content", [VTT, SRT.replace("2\n00", "1\n00"), SRT.replace("2\n00", "00")])
def test_statistics_show_whether_ids_are_positions(read, content):
    lines = read(content, "m.vtt" if content == VTT else "m.srt")
    assert [line.id for line in lines] == ["cue-00001", "cue-00002"]
    assert not read.statistics[0].has_own_ids


@pytest.mark.parametrize(
    ("timing", "start", "end"),
    [
        ("100:00:05,000 --> 100:00:06,250", 360005.0, 360006.25),
        ("999:59:59,998 --> 999:59:59,999", 3599999.998, 3599999.999),
        ("0:00:01.5-->0:00:02,05", 1.5, 2.05),
        ("00:00:01 --> 00:00:02", 1.0, 2.0),
        ("00:00:00,000 --> 00:00:00,001", 0.0, 0.001),
        ("  00:00:01,000 --> 00:00:02,000  X1:40 X2:600 Y1:20 Y2:50 ", 1.0, 2.0),
        ("00:01.000 --> 01:00:02.000 align:start position:10%,line-left", 1.0, 3602.0),
    ],
)
@pytest.mark.parametrize("name", ["m.srt", "m.vtt"])
def test_timing_lines_are_exact(read, name, timing, start, end):
    (line,) = read(f"{timing}\nHello\n", name)
    assert (line.start, line.end) == (start, end)


@pytest.mark.parametrize(
    "timing",
    [
        "00:00:03,000 -> 00:00:04,000",
        "00:00:03,000 —> 00:00:04,000",
        "00:00:03,000 --&gt; 00:00:04,000",
        "00:00:03,000 --> ",
        "--> 00:00:04,000",
        "O0:00:03,000 --> 00:00:04,000",
        "00:00:03,000 --> 00:00:04,0000",
        "00:61:03,000 --> 00:62:04,000",
        "00:03 --> 00:04",
        "00:00:03,000 --> 00:00:04,000 text on the same line",
        "foo --> bar",
        "٠٠:00:03,000 --> 00:00:04,000",
        "1234567890:00:03,000 --> 00:00:04,000",
    ],
)
@pytest.mark.parametrize("name", ["m.srt", "m.vtt"])
def test_broken_timing_line_is_an_error_of_its_cue_only(read, name, timing):
    content = f"1\n00:00:01,000 --> 00:00:02,000\none\n\n2\n{timing}\ntwo\n\n3\n00:00:05,000 --> 00:00:06,000\nthree\n"
    lines = read(content, name)
    assert [(line.id, line.fields["text"]) for line in valid(lines)] == [("cue-00001", "one"), ("cue-00003", "three")]
    assert list(errors(lines)) == [6]
    assert "is not a timing line such as 00:00:01,000 --> 00:00:02,500." in errors(lines)[6]


@pytest.mark.parametrize("end", ["00:00:03,000", "00:00:02,999"])
def test_end_that_is_not_after_start_is_an_error(read, end):
    lines = read(SRT.replace("00:00:04,000", end))
    assert texts(valid(lines)) == ["Hello"]
    assert "must be later than start" in errors(lines)[6]


def test_time_over_a_thousand_hours_is_an_error(read):
    lines = read(SRT.replace("00:00:04,000", "1000:00:00,000"))
    assert "end must be a number of seconds" in errors(lines)[6]


@pytest.mark.parametrize("name", ["m.srt", "m.vtt"])
def test_arrow_in_text_makes_its_cue_invalid(read, name):
    lines = read("00:00:01,000 --> 00:00:02,000\none\nyou --> me\n\n00:00:03,000 --> 00:00:04,000\ntwo\n", name)
    assert texts(valid(lines)) == ["two"]
    assert "only allowed in timing lines, not in 'you --> me'" in errors(lines)[3]


def test_arrow_that_markup_interrupts_is_an_error(read):
    lines = read(SRT.replace("world", "a --<i></i>> b"))
    assert "only allowed in timing lines" in errors(lines)[6]


@pytest.mark.parametrize("text", ["Hello\n00:03.000\n-> 00:04.000\nyou", "a 00:00:03.000 --&gt; 00:00:04.000"])
def test_timing_line_within_a_text_is_an_error(read, text):
    lines = read(VTT.replace("Hello", text), "m.vtt")
    assert texts(valid(lines)) == ["world"]
    assert errors(lines) == {3: "the text of the cue holds a timing line: write it on a line of its own."}


def test_clock_times_in_a_text_are_kept(read):
    text = "from 00:00:01,000 to 00:00:02,000: ready"
    assert texts(read(SRT.replace("world", text))) == ["Hello", text]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<i>Hello</i> <B>you</B>", "Hello you"),
        ('<font color="#ff0000">Hello</font>', "Hello"),
        (r"{\an8}Hello", "Hello"),
        (r"{\pos(1,2)}{\i1}Hello{\i0}", "Hello"),
        ("Hello\nyou", "Hello you"),
        ("  Hello  \n\t\n you ", "Hello you"),
        ("Hello\n42", "Hello 42"),
        ("42", "42"),
        ("42\n43", "42 43"),
        (r"Hello\Nyou", "Hello you"),
        ("3 < 4", "3 < 4"),
        ("&amp;", "&amp;"),
        ("<<", "<<"),
    ],
)
def test_markup_of_subrip_is_removed(read, markup, text):
    numbered = f"1\n00:00:01,000 --> 00:00:02,000\n{markup}\n\n2\n00:00:03,000 --> 00:00:04,000\n{markup}\n"
    assert texts(read(numbered)) == [text, text]
    unnumbered = f"00:00:01,000 --> 00:00:02,000\n{markup}\n\n00:00:03,000 --> 00:00:04,000\n{markup}"
    assert texts(read(unnumbered)) == [text, text]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<v Roger Bingham>Hello", "Hello"),
        ("<c.yellow.bg_blue>Hello</c>", "Hello"),
        ("<00:00:01.000>Hello <00:00:01.500>you", "Hello you"),
        ("<ruby>Hello<rt>you</rt></ruby>", "Helloyou"),
        ("Q&amp;A &lt;3 &gt; 2&nbsp;x", "Q&A <3 > 2\xa0x"),
        ("a --&gt; b", "a --> b"),
        ("Hello\n42", "Hello 42"),
    ],
)
def test_markup_of_webvtt_is_removed(read, markup, text):
    assert texts(read(VTT.replace("Hello", markup), "m.vtt"))[0] == text


@pytest.mark.parametrize(
    "text",
    [
        "if x < y then z > 3",
        "I <3 you > me",
        "5 <a> 6",
        "a<b, c>d",
        "<John> hello",
        "mail <a@example.org>",
        "{laughs} hello",
        "set {x} = {y: 1}",
        "{unclosed",
        r"C:\New\home\name",
        r"\\server\New",
        "1:2,3 - 4:5,6",
    ],
)
@pytest.mark.parametrize("name", ["m.srt", "m.vtt"])
def test_text_that_resembles_markup_is_kept(read, name, text):
    lines = read(f"00:00:01,000 --> 00:00:02,000\n{text}\n\n00:00:03,000 --> 00:00:04,000\n<i>{text}</i>\n", name)
    assert texts(lines) == [text, text]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("Hello<br>you", "Hello you"),
        ('<p style="x">Hello</p><BR />you', "Hello you"),
        ('<font color="#fff>Hello</font>', "Hello"),
        ('<a href="https://example.org/x">Hello</a>', "Hello"),
        ("<b.loud>Hello</b>", "Hello"),
        ("{y:i}Hello {c:$0000ff}you", "Hello you"),
        (r"{\an8\b1}Hello", "Hello"),
    ],
)
@pytest.mark.parametrize("name", ["m.srt", "m.vtt"])
def test_markup_of_other_formats_is_removed(read, name, markup, text):
    assert texts(read(f"00:00:01,000 --> 00:00:02,000\n{markup}\n", name)) == [text]


@pytest.mark.parametrize("number", ["\ufeff2", "\u200e2", "\u200f2\u200f", "2\xa0", "\u0662", "2.", "#2", "2)"])
def test_number_of_cue_is_not_spoken(read, number):
    assert summarize(read(SRT.replace("\n2\n", f"\n{number}\n"))) == TWO_CUES


def test_line_in_place_of_number_makes_cue_invalid(read):
    lines = read(SRT.replace("\n2\n", "\nscene 2\n"))
    assert texts(valid(lines)) == ["world"]
    assert errors(lines) == {2: "'scene 2' is not the number of a cue."}


@pytest.mark.parametrize("content", ["{0}\n42\n{1}\nworld\n", "{0}\nsix times seven\n\n42\n\n{1}\nworld"])
def test_number_that_may_be_text_makes_cue_invalid(read, content):
    lines = read(content.format("00:00:01,000 --> 00:00:02,000", "00:00:03,000 --> 00:00:04,000"))
    assert texts(valid(lines)) == ["world"]
    assert "'42' may be its text or the number of the next cue" in errors(lines)[1]


def test_clock_times_on_a_line_of_text_are_spoken(read):
    assert summarize(read(SRT.replace("Hello", "Open\n10:30:00 - 11:30:00")))[0][1] == "Open 10:30:00 - 11:30:00"


def test_broken_timing_line_without_blank_line_makes_both_cues_invalid(read):
    lines = read(SRT.replace("\n\n2\n00:00:03,000 -->", "\n00:00:03,000 ->"))
    assert valid(lines) == []
    assert "may be its text or a timing line" in errors(lines)[2]
    assert "is not a timing line" in errors(lines)[4]


def test_invisible_characters_in_timing_line_are_ignored(read):
    content = SRT.replace("00:00:03", "\u200e00:00:03").replace(" --> ", "\xa0-->\u202f")
    assert summarize(read(content)) == TWO_CUES


@pytest.mark.parametrize("header", ["WEBVTT", "WEBVTT\nKind: captions", "WEBVTT\n\nSTYLE\n::cue { color: red }"])
def test_cue_after_header_without_blank_line_is_read(read, header):
    assert summarize(read(f"{header}\n{VTT.removeprefix('WEBVTT').lstrip()}", "m.vtt")) == TWO_CUES


def test_blocks_that_are_no_cues_are_skipped(read):
    content = (
        "WEBVTT - a title\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000\n\n"
        "STYLE\n::cue { color: red }\n\nREGION\nid:fred\n\nNOTE\n00:09.000 --> 00:10.000\nnot spoken\n\n"
        "NOTE one line\n\n"
        "intro\n00:01.000 --> 00:02.500\nHello\n\nNOTE\ta tab\n\nlast one\n00:03.000 --> 00:04.000\nworld\n"
    )
    lines = read(content, "m.vtt")
    assert [(line.id, line.fields["text"]) for line in lines] == [("intro", "Hello"), ("last one", "world")]


def test_webvtt_text_outside_of_cues_is_an_error(read):
    lines = read(VTT.replace("Hello\n", "Hello\n\nlost text\nmore\n"), "m.vtt")
    assert texts(valid(lines)) == ["Hello", "world"]
    assert errors(lines) == {6: "'lost text' is not part of a cue: remove it, or add a timing line."}


def test_text_before_the_first_cue_is_an_error(read):
    lines = read(f"\nSubtitles by Anna\n\n{SRT}")
    assert summarize(valid(lines)) == TWO_CUES
    assert list(errors(lines)) == [2]


def test_blank_line_within_a_subrip_cue_belongs_to_it(read):
    lines = read(SRT.replace("Hello\n", "Hello\n\n\nyou\n"))
    assert texts(lines) == ["Hello you", "world"]


def test_blank_lines_between_all_lines_are_ignored(read):
    assert summarize(read(SRT.replace("\n", "\n\n"))) == TWO_CUES


def test_cues_without_blank_lines_are_separated(read):
    assert summarize(read(SRT.replace("\n\n", "\n"))) == TWO_CUES


def test_overlapping_and_unsorted_cues_are_kept_in_file_order(read):
    lines = read("5\n00:00:09,000 --> 00:00:12,000\na\n\n3\n00:00:01,000 --> 00:00:10,000\nb\n")
    assert [(line.id, line.start) for line in lines] == [("cue-00005", 9.0), ("cue-00003", 1.0)]


@pytest.mark.parametrize(
    ("identifiers", "ids"),
    [
        (["3", "0007", "123456"], ["cue-00003", "cue-00007", "cue-123456"]),
        (["1", "01", "2"], ["cue-00001", "cue-00002", "cue-00003"]),
        (["7", "", "9"], ["cue-00001", "cue-00002", "cue-00003"]),
        (["intro", "12", "scene 3"], ["intro", "cue-00012", "scene 3"]),
        (["intro", "../x", "scene 3"], ["cue-00001", "cue-00002", "cue-00003"]),
        (["cue-00012", "12", "13"], ["cue-00001", "cue-00002", "cue-00003"]),
    ],
)
def test_ids_are_own_numbers_if_all_are_unique(read, identifiers, ids):
    cues = [
        f"{one}\n00:01.000 --> 00:02.000\ntext\n" if one else "00:01.000 --> 00:02.000\ntext\n" for one in identifiers
    ]
    assert [line.id for line in read("WEBVTT\n\n" + "\n".join(cues), "m.vtt")] == ids


@pytest.mark.parametrize("name", ["m.srt", "m.vtt"])
@pytest.mark.parametrize("is_numbered", [True, False])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("text 2", ""),
        ("text 2", "<i>\u200b</i>"),
        ("text 2", "2\n3"),
        ("text 2", "first\nsecond"),
        ("00:00:02.000 --> 00:00:02.500", "00:00:09.000 --> 00:00:09.500"),
        ("00:00:02.000 --> 00:00:02.500", "00:00:02.500 --> 00:00:02.000"),
        ("00:00:02.000 --> 00:00:02.500", "00:00:02.500 -> 00:00:02.000"),
        ("text 2", "a --> b"),
    ],
)
def test_edit_of_one_cue_changes_no_other_id(read, name, is_numbered, old, new):
    numbers = (f"{number * 10}\n" if is_numbered else "" for number in range(1, 5))
    cues = [f"{one}00:00:0{n}.000 --> 00:00:0{n}.500\ntext {n}\n\n" for n, one in enumerate(numbers, 1)]
    before = {line.fields["text"]: line.id for line in read("".join(cues), name)}
    after = {line.fields["text"]: line.id for line in valid(read("".join(cues).replace(old, new), name))}
    unchanged = ["text 1", "text 3", "text 4"]
    assert [after[text] for text in unchanged] == [before[text] for text in unchanged]
    assert len(after) == 3 or after.keys() - set(unchanged)


@pytest.mark.parametrize("empty", ["", " ", "<i></i>", r"{\an8}", "\u200b\u200e", "&nbsp;"])
def test_empty_cues_are_skipped_and_counted(read, empty):
    lines = read(VTT.replace("Hello", empty), "m.vtt")
    assert texts(lines) == ["world"]
    assert read.statistics[0].empty_cues == 1


@pytest.mark.parametrize("content", ["", "\n\n", "WEBVTT\n", "1\n\n2\n", "no cues\nat all"])
@pytest.mark.parametrize("name", ["m.srt", "m.vtt"])
def test_file_without_cues_is_rejected(read, name, content):
    with pytest.raises(InvalidRequestError, match=r"has no cue with a line such as 00:00:01,000 --> 00:00:02,500"):
        read(content, name)


def test_file_over_the_limit_is_rejected(read, monkeypatch):
    monkeypatch.setattr(subtitles, "MAX_SUBTITLE_BYTES", 100)
    assert read(SRT.ljust(100))
    with pytest.raises(InvalidRequestError, match="has more than 100 bytes"):
        read(SRT.ljust(101))


def test_missing_pysubs2_is_an_error_with_the_extra(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "pysubs2", None)
    with pytest.raises(InvalidRequestError, match=r"Install airflow-provider-mps\[subtitles\]"):
        read(SRT)


def test_nul_in_a_text_is_an_error_of_its_line(read, tmp_path):
    hello, world = read(SRT.replace("world", "wor\0ld"))
    manifest = ObjectStoragePath(f"file://{tmp_path}/m.srt")
    assert hello.make_request(LineDefaults("v"), manifest).text == "Hello"
    with pytest.raises(InvalidRequestError, match=r"U\+0000"):
        world.make_request(LineDefaults("v"), manifest)


def test_fit_to_cues_sets_the_duration(read, tmp_path):
    line = read(SRT.replace("00:00:02,500", "00:00:02,123"))[0]
    manifest = ObjectStoragePath(f"file://{tmp_path}/m.srt")
    request = line.make_request(LineDefaults("v", fit_to_cues=True), manifest)
    assert request.ext_param == {"synExt": {"duration": 1.123}}
    assert line.make_request(LineDefaults("v"), manifest).ext_param == {}


@pytest.mark.parametrize("name", ["m.srt", "m.vtt"])
@pytest.mark.parametrize(
    ("head", "unit", "count"),
    [
        ("", "1:", 400),
        ("", "1,", 50_000),
        ("", "1", 100_000),
        ("", "00:01:02 ", 10_000),
        ("", "<", 10_000),
        ("", "-", 100_000),
        ("<", " ", 20_000),
        ("<b a=a", " a=a", 5_000),
        ("", "{\\", 5_000),
    ],
)
def test_long_line_is_read_in_linear_time(read, name, head, unit, count):
    def measure(times):
        text = head + times * unit
        started = time.process_time()
        (line,) = read(f"00:00:01.000 --> 00:00:02.000\n{text}\n", name)
        assert line.fields["text"] == text.strip()
        return time.process_time() - started

    measure(1)  # imports pysubs2
    small = min(measure(count) for _ in range(3))
    assert measure(10 * count) < 40 * max(small, 0.001)  # ten times in linear time, a hundred times in quadratic time
