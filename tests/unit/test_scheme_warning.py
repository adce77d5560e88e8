import logging

import pytest
from airflow.models.connection import Connection  # Airflow's own processes use this one

from airflow_provider_mps.provider_info import get_provider_info
from airflow_provider_mps.scheme_warning import drop_scheme_warning

WARNING = "Connection schemes (type: %s) shall not contain '_' according to RFC3986."


@pytest.fixture
def logged(capsys, caplog):
    """Return what Airflow logs of a connection: by the standard library or, past it, by structlog."""

    def logged(conn_type):
        caplog.clear()
        capsys.readouterr()
        Connection("a", conn_type, login="id").get_uri()
        return caplog.text + "".join(capsys.readouterr())

    return logged


def test_no_look_up_logs_that_the_connection_type_has_an_underscore(logged):
    get_provider_info()  # what every process of Airflow calls
    assert "shall not contain" not in logged("tencent_mps")


def test_the_warning_about_other_types_stays(logged):
    drop_scheme_warning()
    assert "shall not contain" in logged("other_type")
    assert "shall not contain" in logged("tencent_mps_2")


def test_the_standard_librarys_logger_drops_it_too_and_once():
    logger = logging.getLogger("airflow.models.connection.Connection")
    drop_scheme_warning()
    filters = list(logger.filters)
    drop_scheme_warning()
    assert logger.filters == filters
    for conn_type, stays in (("tencent_mps", False), ("other_type", True)):
        record = logger.makeRecord(logger.name, logging.WARNING, "", 0, WARNING, (conn_type,), None)
        assert bool(logger.filter(record)) is stays
