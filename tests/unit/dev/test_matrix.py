from __future__ import annotations

from xml.etree import ElementTree

from dev.known_faults import KNOWN_FAULTS
from dev.matrix import _read_report


def test_report_gives_result_of_each_test_and_repeats(tmp_path):
    report = ElementTree.fromstring(f"""
        <testsuites><testsuite>
            <properties>
                <property name="repeated" value="{KNOWN_FAULTS[1].message}"/>
                <property name="other" value="{KNOWN_FAULTS[0].message}"/>
            </properties>
            <testcase name="test_soft_fail_skips"><failure message="assert"/></testcase>
            <testcase name="test_batch_stores_every_line[batch_deferred]"><error message="setup"/></testcase>
            <testcase name="test_listen_plays_stored_audio"><skipped/></testcase>
            <testcase name="test_the_demo_stores_a_clip"/>
        </testsuite></testsuites>""")
    ElementTree.ElementTree(report).write(tmp_path / "report.xml")
    results = {
        "soft fail skips": "FAILED",
        "batch stores every line: batch deferred": "FAILED",
        "listen plays stored audio": "no",
        "the demo stores a clip": "yes",
    }
    assert _read_report(tmp_path / "report.xml") == (results, [KNOWN_FAULTS[1]])


def test_report_that_is_not_there_gives_no_result(tmp_path):
    assert _read_report(tmp_path / "report.xml") == ({}, [])
