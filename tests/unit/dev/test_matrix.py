from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from dev import matrix
from dev.known_faults import KNOWN_FAULTS
from dev.matrix import _read_report, _table, read_phrases


def test_report_gives_result_of_each_test_and_repeats(tmp_path):
    report = ElementTree.fromstring(f"""
        <testsuites><testsuite>
            <properties>
                <property name="repeated" value="{KNOWN_FAULTS[1].message}"/>
                <property name="other" value="{KNOWN_FAULTS[0].message}"/>
            </properties>
            <testcase name="test_soft_fail_skips"><failure message="assert"/></testcase>
            <testcase name="test_batch_stores_every_line[in the triggerer]"><error message="setup"/></testcase>
            <testcase name="test_listen_plays_stored_audio"><skipped/></testcase>
            <testcase name="test_demo_stores_a_clip"/>
        </testsuite></testsuites>""")
    ElementTree.ElementTree(report).write(tmp_path / "report.xml")
    results = {
        "`soft_fail` skips the sensor": "FAILED",
        "A batch that waits in the triggerer stores every line": "FAILED",
        "The *Listen* view plays the stored audio": "No",
        "`make demo` stores a clip": "Yes",
    }
    assert _read_report(tmp_path / "report.xml", read_phrases()) == (results, [KNOWN_FAULTS[1]])


def test_missing_report_gives_no_result(tmp_path):
    assert _read_report(tmp_path / "report.xml", {}) == ({}, [])


@pytest.mark.parametrize("kind", ["error", "skipped"])
def test_module_without_tests_fails_under_its_own_name(tmp_path, kind):
    (tmp_path / "report.xml").write_text(
        f"""<testsuites><testsuite>
            <testcase classname="" name="tests.matrix.test_demo"><{kind} message="no module named x"/></testcase>
            <testcase name="test_soft_fail_skips"/>
        </testsuite></testsuites>"""
    )
    results = {"tests.matrix.test_demo": "FAILED", "`soft_fail` skips the sensor": "Yes"}
    assert _read_report(tmp_path / "report.xml", read_phrases()) == (results, [])


def test_missing_docstring_is_reported_before_installation(monkeypatch):
    def read_without_docstring():
        raise ValueError("test_a needs a docstring")

    monkeypatch.setattr(matrix, "read_phrases", read_without_docstring)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a command was run"))
    monkeypatch.setattr("sys.argv", ["matrix"])
    with pytest.raises(ValueError, match="test_a needs a docstring"):
        matrix.main()


def test_phrase_is_first_line_of_docstring(tmp_path):
    source = 'def test_a():\n    """A clip is stored.\n\n    In a folder.\n    """\n\ndef help_it():\n    pass\n'
    (tmp_path / "test_it.py").write_text(source)
    (tmp_path / "conftest.py").write_text("def test_not_collected():\n    pass\n")
    assert read_phrases(tmp_path) == {"test_a": "A clip is stored"}


def test_phrase_of_parametrized_test_has_id_of_each_parameter(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "@pytest.mark.parametrize('way', [pytest.param(1, id='in a'), pytest.param(2, id='in b')])\n"
        "def test_a(way):\n    'Works {way} too.'\n"
    )
    assert read_phrases(tmp_path) == {"test_a[in a]": "Works in a too", "test_a[in b]": "Works in b too"}


def test_test_without_docstring_raises_value_error(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_a():\n    pass\n")
    with pytest.raises(ValueError, match="test_a needs a docstring"):
        read_phrases(tmp_path)


def test_phrases_start_with_a_capital_and_are_distinct():
    phrases = list(read_phrases().values())
    assert len(set(phrases)) == len(phrases) > 20
    for phrase in phrases:
        assert phrase[0].isupper() or phrase[0] in "`*", phrase
        assert "{" not in phrase
        assert "_" not in re.sub("`[^`]+`", "", phrase), phrase


def test_table_merges_pythons_with_same_results():
    columns = {
        ("3.1", "3.11"): {"A": "Yes", "B": "No"},
        ("3.1", "3.12"): {"A": "Yes", "B": "No"},
        ("3.1", "3.13"): {"A": "Yes", "B": "FAILED"},
        ("3.2", "3.11"): {"A": "Yes"},
    }
    assert _table(columns, {"test_a": "A", "test_b": "B"}) == (
        "| Feature | 3.1 (Python 3.11, 3.12) | 3.1 (Python 3.13) | 3.2 (Python 3.11) |\n"
        "| --- | --- | --- | --- |\n"
        "| A | Yes | Yes | Yes |\n"
        "| B | No | FAILED | FAILED |\n"
    )


def test_table_leaves_an_uncollected_module_empty_elsewhere():
    columns = {
        ("3.1", "3.11"): {"A": "Yes"},
        ("3.2", "3.11"): {"tests.matrix.test_a": "FAILED"},
    }
    assert _table(columns, {"test_a": "A"}) == (
        "| Feature | 3.1 (Python 3.11) | 3.2 (Python 3.11) |\n"
        "| --- | --- | --- |\n"
        "| A | Yes | FAILED |\n"
        "| tests.matrix.test_a |  | FAILED |\n"
    )
