import subprocess
import sys

import pytest

from airflow_provider_mps.player import plugin
from airflow_provider_mps.player.plugin import PlayerPlugin


def test_airflow_loads_and_mounts_the_plugin():
    from airflow import plugins_manager

    apps, _ = plugins_manager.get_fastapi_plugins()
    assert [app["url_prefix"] for app in apps if app["name"] == "MPS player"] == ["/mps-player"]
    views, _ = plugins_manager._get_ui_plugins()
    (view,) = (view for view in views if view["name"] == "Listen")
    assert view["destination"] == "task_instance"
    for part in ("{DAG_ID}", "{RUN_ID}", "{TASK_ID}", "{MAP_INDEX}"):
        assert part in view["href"]


@pytest.mark.parametrize("missing", ["soundfile", "airflow 3.1"])
def test_no_view_without_the_extra_or_before_airflow_3_1(monkeypatch, missing):
    if missing == "soundfile":
        monkeypatch.setattr(plugin, "find_spec", lambda _: None)
    else:
        monkeypatch.setattr(plugin, "AIRFLOW_V_3_1_PLUS", False)
    assert PlayerPlugin().external_views == []
    assert PlayerPlugin().fastapi_apps == []


@pytest.mark.slow
def test_plugin_in_a_worker_imports_no_api_server():
    code = (
        "from airflow_provider_mps.player.plugin import PlayerPlugin; import sys; PlayerPlugin();"
        "print([name for name in sys.modules if name.split('.')[0] in {'fastapi', 'soundfile', 'numpy'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
