import logging

import pytest
from airflow.models.connection import Connection  # as Airflow's own processes do

from airflow_provider_mps.get_provider_info import get_provider_info
from airflow_provider_mps.version_compat import drop_scheme_warning

WARNING = "Connection schemes (type: %s) shall not contain '_' according to RFC3986."


@pytest.fixture
def logged(capsys, caplog):
    """Return a function that returns the log of a lookup, by the standard library or by structlog."""

    def logged(conn_type):
        caplog.clear()
        capsys.readouterr()
        Connection("a", conn_type, login="id").get_uri()
        return caplog.text + "".join(capsys.readouterr())

    return logged


def test_lookup_does_not_log_scheme_warning(logged):
    get_provider_info()  # every Airflow process calls this
    assert "shall not contain" not in logged("tencent_mps")


def test_scheme_warning_of_other_types_is_logged(logged):
    drop_scheme_warning()
    assert "shall not contain" in logged("other_type")
    assert "shall not contain" in logged("tencent_mps_2")


def test_drop_scheme_warning_adds_one_logging_filter():
    logger = logging.getLogger("airflow.models.connection.Connection")
    drop_scheme_warning()
    filters = list(logger.filters)
    drop_scheme_warning()
    assert logger.filters == filters
    for conn_type, is_logged in (("tencent_mps", False), ("other_type", True)):
        record = logger.makeRecord(logger.name, logging.WARNING, "", 0, WARNING, (conn_type,), None)
        assert bool(logger.filter(record)) is is_logged
