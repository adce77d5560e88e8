"""docs/benchmarks.md, scaling.md and many-machines.md: their commands, options and defaults are those of the code."""

import configparser
import re

import pytest
from airflow.configuration import conf

from airflow_provider_mps.connection_form import DEFAULT_REQUESTS_PER_SECOND
from benchmarks.cluster import NOTICED
from dev.airflow_environment import REPOSITORY
from tests.docs.pages import DOCS, read_blocks, read_section, read_tables

BENCHMARKS = DOCS / "benchmarks.md"
SCALING = DOCS / "scaling.md"
MANY_MACHINES = DOCS / "many-machines.md"
HEARTBEATS = "How long does the loss of a machine go unnoticed?"
CAPACITY = "How many triggerers for 10,000 waiting tasks?"
# Helpers that a benchmark starts by itself.
NOT_COMMANDS = {"benchmarks.one_batch", "benchmarks.storing_candidates", "benchmarks.storing_source"}


def read_options(page):
    """Return the section, option and value of each line in the ini blocks of a page."""
    for block in read_blocks(page, "ini"):
        parser = configparser.ConfigParser()
        parser.read_string(block)
        for section in parser.sections():
            yield from ((section, option, value) for option, value in parser[section].items())


def test_every_benchmark_has_its_command_on_the_page():
    commands = set(re.findall(r"python -m (benchmarks\.\w+)", BENCHMARKS.read_text()))
    runnable = {
        f"benchmarks.{file.stem}"
        for file in (REPOSITORY / "benchmarks").glob("*.py")
        if '__name__ == "__main__"' in file.read_text()
    }
    assert commands == runnable - NOT_COMMANDS


def test_every_benchmark_section_has_a_date_or_a_sentence_that_refers_to_one():
    sections = re.findall(r"^## (.+)$", BENCHMARKS.read_text(), re.MULTILINE)
    for section in sections:
        text = " ".join(read_section(BENCHMARKS, section).split())
        assert re.search(r"\b20\d\d-\d\d-\d\d\b", text) or "The same commands" in text, section


def test_write_ahead_log_benchmark_uses_the_default_rate():
    text = read_section(BENCHMARKS, "What does slow storage cost a batch?")
    assert f"the default rate of {DEFAULT_REQUESTS_PER_SECOND:g} per second" in text


def test_options_of_many_machines_exist_in_airflow():
    options = list(read_options(MANY_MACHINES))
    assert len(options) == 5
    for section, option, _ in options:
        assert conf.has_option(section, option), option


@pytest.mark.parametrize("row", next(read_tables(read_section(SCALING, HEARTBEATS))), ids=lambda row: row["Option"])
def test_heartbeat_row_has_airflow_default_and_benchmark_value(row):
    section, option = re.fullmatch(r"`\[(\w+)\] (\w+)`", row["Option"]).groups()
    assert float(conf.get_default_value(section, option)) == float(row["Airflow's default"].removesuffix(" s"))
    assert NOTICED[f"AIRFLOW__{section}__{option}".upper()] == row["In the benchmark"].removesuffix(" s")


def test_heartbeat_block_has_benchmark_values():
    values = {f"AIRFLOW__{section}__{option}".upper(): value for section, option, value in read_options(MANY_MACHINES)}
    assert {name: value for name, value in values.items() if not name.endswith("CAPACITY")}.items() <= NOTICED.items()


def test_capacity_section_has_airflow_defaults():
    text = " ".join(read_section(MANY_MACHINES, CAPACITY).split())
    assert f"`[triggerer] capacity` is {int(conf.get_default_value('triggerer', 'capacity')):,} tasks" in text
    most = conf.get_default_value("triggerer", "max_trigger_to_select_per_loop")
    assert f"at most {most} at a time (`[triggerer] max_trigger_to_select_per_loop`)" in text
