"""Put the Listen view into Airflow's UI."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_mps.scheme_warning import drop_scheme_warning

URL_PREFIX = "/mps-player"


drop_scheme_warning()  # in the API server, which looks connections up for the workers


def is_available() -> bool:
    """Tell whether this Airflow shows views of plugins on a task instance, and the extra ``player`` is installed."""
    return AIRFLOW_V_3_1_PLUS and find_spec("soundfile") is not None


class PlayerPlugin(AirflowPlugin):
    """
    The tab *Listen* on a task instance, and what answers behind it.

    Airflow loads plugins in every process: what only its API server needs is imported when that asks.
    """

    name = "mps_player"

    @property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The tab. Airflow puts the task instance's own ids into the address."""
        if not is_available():
            return []
        ids = "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}"
        return [
            {
                "name": "Listen",
                # Without a slash in front: Airflow may be served below a path of its own.
                "href": f"{URL_PREFIX.strip('/')}/listen.html?{ids}",
                "destination": "task_instance",
                "url_route": "listen",
                "icon": f"{URL_PREFIX.strip('/')}/listen.svg",
            }
        ]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """What serves the tab, within Airflow's API server."""
        if not is_available():
            return []
        from airflow_provider_mps.player.app import app

        return [{"app": app, "url_prefix": URL_PREFIX, "name": "MPS player"}]
