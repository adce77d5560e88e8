"""A running Airflow, asked through its own REST API."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

import httpx

FINISHED = {"success", "failed", "skipped", "upstream_failed", "removed"}
TIMEOUT = 60
"""Seconds of a request: a busy machine answers late."""


class AirflowApi:
    """
    The REST API of an Airflow with the simple auth manager.

    :param url: of its UI
    :param user: who asks; nobody where it lets everybody in
    :param password: theirs
    """

    def __init__(self, url: str, user: str | None = None, password: str | None = None) -> None:
        signed_in = (
            httpx.post(f"{url}/auth/token", json={"username": user, "password": password}, timeout=TIMEOUT)
            if user
            else httpx.get(f"{url}/auth/token", timeout=TIMEOUT)
        )
        token = signed_in.json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        self.client = httpx.Client(base_url=f"{url}/api/v2", headers=headers, timeout=TIMEOUT)

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Make a call, and return the JSON of its answer."""
        answer = self.client.request(method, path, **arguments)
        if not answer.is_success:
            raise RuntimeError(f"{method} {path}: HTTP {answer.status_code}: {answer.text}")
        return answer.json() if answer.content else None

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run, as soon as Airflow has read the DAG, and return its id."""
        deadline = time.monotonic() + 60
        while self.client.get(f"/dags/{dag_id}").status_code != HTTPStatus.OK and time.monotonic() < deadline:
            time.sleep(0.5)
        run = {"logical_date": None, "conf": conf or {}}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", json=run)["dag_run_id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return what Airflow tells of the runs of a DAG, as far as it has any and knows it."""
        answer = self.client.get(f"/dags/{dag_id}/dagRuns")
        return list(answer.json()["dag_runs"]) if answer.is_success else []

    def instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return what Airflow tells of each task instance."""
        found: list[dict[str, Any]] = []
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        while page := self.call("GET", path, params={"limit": 100, "offset": len(found)})["task_instances"]:
            found += page
        return found

    def tasks(self, dag_id: str, run_id: str) -> dict[str, tuple[str | None, int]]:
        """Return state and number of tries of each task instance; mapped ones as ``wait[0]``."""
        return {
            task["task_id"] + ("" if task["map_index"] < 0 else f"[{task['map_index']}]"): (
                task["state"],
                task["try_number"],
            )
            for task in self.instances(dag_id, run_id)
        }

    def wait(self, dag_id: str, run_id: str, states: set[str] = FINISHED, timeout: float = 180) -> dict[str, Any]:
        """Return the task instances once all are in one of the states."""
        deadline = time.monotonic() + timeout
        while True:
            tasks = self.tasks(dag_id, run_id)
            if tasks and all(state in states for state, _ in tasks.values()):
                return tasks
            if time.monotonic() > deadline:
                raise TimeoutError(f"{dag_id} {run_id}: {tasks}")
            time.sleep(0.5)

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """Return what a task returned, or pushed under another key."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call("GET", path, params={"map_index": map_index})["value"]

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """Return the address of each button of a task instance."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        return dict(self.call("GET", path)["extra_links"])

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        """Return the log of a try, of worker and triggerer."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        return str(self.call("GET", path, params={"full_content": True}))
