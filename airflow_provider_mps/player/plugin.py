"""Airflow plugin that adds the Listen view to the UI."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_mps.version_compat import drop_scheme_warning

URL_PREFIX = "/mps-player"


drop_scheme_warning()  # the API server looks connections up for the workers


def is_available() -> bool:
    """Return whether this Airflow shows plugin views on task instances, and the extra ``player`` is installed."""
    return AIRFLOW_V_3_1_PLUS and find_spec("soundfile") is not None


class PlayerPlugin(AirflowPlugin):
    """
    The tab *Listen* on a task instance, and its API.

    Airflow loads plugins in every process, so what only the API server needs is imported on use.
    """

    name = "mps_player"

    @property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The tab; Airflow inserts the ids of the task instance into the URL."""
        if not is_available():
            return []
        ids = "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}"
        return [
            {
                "name": "Listen",
                # Without a leading slash: Airflow may be served below a path.
                "href": f"{URL_PREFIX.strip('/')}/listen.html?{ids}",
                "destination": "task_instance",
                "url_route": "listen",
                "icon": f"{URL_PREFIX.strip('/')}/listen.svg",
            }
        ]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The API of the tab, within Airflow's API server."""
        if not is_available():
            return []
        from airflow_provider_mps.player.app import app

        return [{"app": app, "url_prefix": URL_PREFIX, "name": "MPS player"}]
