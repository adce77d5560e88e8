"""A running Airflow, asked through its own REST API."""

from __future__ import annotations

import time
from typing import Any

import httpx

FINISHED = {"success", "failed", "skipped", "upstream_failed", "removed"}


class AirflowApi:
    def __init__(self, url: str) -> None:
        token = httpx.get(f"{url}/auth/token").json()["access_token"]
        self.client = httpx.Client(base_url=f"{url}/api/v2", headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self.client.request(method, path, **arguments)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run, as soon as Airflow has read the DAG, and return its id."""
        deadline = time.monotonic() + 60
        while self.client.get(f"/dags/{dag_id}").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.5)
        return self.call("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf or {}})[
            "dag_run_id"
        ]

    def tasks(self, dag_id: str, run_id: str) -> dict[str, tuple[str | None, int]]:
        """State and number of tries of each task instance; mapped ones as ``wait[0]``."""
        found = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 200})
        return {
            task["task_id"] + ("" if task["map_index"] < 0 else f"[{task['map_index']}]"): (
                task["state"],
                task["try_number"],
            )
            for task in found["task_instances"]
        }

    def wait(self, dag_id: str, run_id: str, states: set[str] = FINISHED, timeout: float = 180) -> dict[str, Any]:
        """Return the task instances once all are in one of the states."""
        deadline = time.monotonic() + timeout
        while True:
            tasks = self.tasks(dag_id, run_id)
            if tasks and all(state in states for state, _ in tasks.values()):
                return tasks
            assert time.monotonic() < deadline, tasks
            time.sleep(0.5)

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Any:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self.call("GET", path, params={"map_index": map_index})["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        return str(self.call("GET", path, params={"full_content": True}))
