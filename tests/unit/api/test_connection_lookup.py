import asyncio
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_mps.api import connection_lookup
from airflow_provider_mps.api.connection_lookup import aget_mps_connection, get_mps_connection
from airflow_provider_mps.api.retry import MAX_ASYNC_LOOKUPS, MAX_LOOKUPS
from airflow_provider_mps.exceptions import InvalidMpsConnectionError
from airflow_provider_mps.hooks.mps import MpsHook
from tests.tracebacks import printed

STORED = SimpleNamespace(
    conn_id="mps_default", login=None, password=None, host="mps.test", port=None, schema=None, extra_dejson={}
)


@pytest.fixture(params=["sync", "async"])
def look_up(monkeypatch, request):
    """Look up a connection that Airflow does not find for a number of attempts."""
    attempts = []

    def look_up(failures):
        attempts.clear()

        def get_connection(*_, **__):
            attempts.append(1)
            if len(attempts) <= failures:
                raise AirflowNotFoundException("the API server did not respond")
            return STORED

        async def aget_connection(*_, **__):
            return get_connection()

        monkeypatch.setattr(BaseHook, "get_connection", get_connection)
        monkeypatch.setattr(connection_lookup, "get_async_connection", aget_connection)
        if request.param == "sync":
            return get_mps_connection("mps_default")
        return asyncio.run(aget_mps_connection("mps_default"))

    look_up.attempts = attempts
    return look_up


def test_lookup_retries_transient_not_found(look_up):
    assert look_up(MAX_LOOKUPS - 1).endpoint == "mps.test"


def test_lookup_of_missing_connection_gives_advice(look_up):
    with pytest.raises(InvalidMpsConnectionError, match=r"'mps_default' does not exist.*AIRFLOW_CONN_MPS_DEFAULT"):
        look_up(100)
    assert len(look_up.attempts) in {MAX_LOOKUPS, MAX_ASYNC_LOOKUPS}


def test_lookup_of_unreadable_connection_raises_without_value(connect):
    connect("tencent-mps://AKIDexample:SECRET/KEY@host")  # the slash is not escaped
    with pytest.raises(InvalidMpsConnectionError, match=r"Airflow cannot read.*tencent-mps://") as caught:
        MpsHook().get_mps_connection()
    assert "SECRET" not in printed(caught.value)
