"""Client of a running Airflow's REST API."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

import httpx

FINISHED = {"success", "failed", "skipped", "upstream_failed", "removed"}
REQUEST_TIMEOUT_SECONDS = 60
"""Long, for a busy machine responds late."""


class AirflowApi:
    """
    The REST API of an Airflow with the simple auth manager.

    :param url: URL of its UI
    :param user: name of the user; ``None`` if it lets all users in without signing in
    :param password: password of the user
    """

    def __init__(self, url: str, user: str | None = None, password: str | None = None) -> None:
        with httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_SECONDS) as client:
            if user:
                signed_in = client.post("/auth/token", json={"username": user, "password": password})
            else:
                signed_in = client.get("/auth/token")
        token = signed_in.json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        self.client = httpx.Client(base_url=f"{url}/api/v2", headers=headers, timeout=REQUEST_TIMEOUT_SECONDS)

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Make a call, and return the JSON of its response."""
        response = self.client.request(method, path, **arguments)
        if not response.is_success:
            raise RuntimeError(f"{method} {path}: HTTP {response.status_code}: {response.text}")
        return response.json() if response.content else None

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Trigger a run as soon as Airflow has parsed the DAG; return its id."""
        deadline = time.monotonic() + 60
        while self.client.get(f"/dags/{dag_id}").status_code != HTTPStatus.OK and time.monotonic() < deadline:
            time.sleep(0.5)
        run = {"logical_date": None, "conf": conf or {}}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", json=run)["dag_run_id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG; none if Airflow does not know the DAG yet."""
        response = self.client.get(f"/dags/{dag_id}/dagRuns")
        return list(response.json()["dag_runs"]) if response.is_success else []

    def instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return all task instances of a run."""
        found: list[dict[str, Any]] = []
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        while page := self.call("GET", path, params={"limit": 100, "offset": len(found)})["task_instances"]:
            found += page
        return found

    def tasks(self, dag_id: str, run_id: str) -> dict[str, tuple[str | None, int]]:
        """Return state and try number of each task instance; mapped ones as ``wait[0]``."""
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
        """Return the URL of each extra link of a task instance."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        return dict(self.call("GET", path)["extra_links"])

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        """Return the log of one attempt, of worker and triggerer."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        return str(self.call("GET", path, params={"full_content": True}))
