import asyncio

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_mps import connection_look_up as module
from airflow_provider_mps.connection_look_up import afind_connection, find_connection
from airflow_provider_mps.errors import InvalidMpsConnectionError
from airflow_provider_mps.hooks.mps import MpsHook
from tests.tracebacks import printed


@pytest.fixture
def find(monkeypatch, connect, request):
    """Look a connection up, in one way or the other, after so many looks that find none."""
    connect("tencent-mps://id:key@")
    looks = []

    def find(failures):
        looks.clear()

        def look(*_, **__):
            looks.append(1)
            if len(looks) <= failures:
                raise AirflowNotFoundException("the API server did not answer")
            return "found"

        async def alook(*_, **__):
            return look()

        monkeypatch.setattr(MpsHook, "get_connection", look)
        monkeypatch.setattr(module, "get_async_connection", alook)
        hook = MpsHook()
        if request.param == "sync":
            return find_connection(hook, "mps_default")
        return asyncio.run(afind_connection(hook, "mps_default"))

    find.looks = looks
    return find


@pytest.mark.parametrize("find", ["sync", "async"], indirect=True)
def test_a_moment_in_which_airflow_cannot_look_is_no_missing_connection(find):
    assert find(module.TRIES - 1) == "found"


@pytest.mark.parametrize("find", ["sync", "async"], indirect=True)
def test_a_connection_that_is_missing_is_told_with_what_to_do(find):
    with pytest.raises(InvalidMpsConnectionError, match=r"'mps_default' does not exist.*AIRFLOW_CONN_MPS_DEFAULT"):
        find(100)
    assert len(find.looks) in {module.TRIES, module.ASYNC_TRIES}


def test_what_airflow_cannot_read_is_named_as_such_and_not_quoted(connect):
    connect("tencent-mps://AKIDexample:SECRET/KEY@host")  # the slash is not escaped
    with pytest.raises(InvalidMpsConnectionError, match=r"Airflow cannot read.*tencent-mps://") as caught:
        MpsHook().look_up()
    assert "SECRET" not in printed(caught.value)
