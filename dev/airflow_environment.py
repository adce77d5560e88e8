"""The environment of an Airflow that touches nothing outside its own folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLE_DAGS = REPOSITORY / "example_dags"


def airflow_environment(home: Path, dags: Path = EXAMPLE_DAGS) -> dict[str, str]:
    """
    Return this process's environment, changed so that Airflow lives in ``home`` and runs the DAGs in ``dags``.

    :param home: folder for the configuration, the SQLite database and the logs
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    programs = Path(sys.executable).parent
    return {
        **inherited,
        "PATH": f"{programs}{os.pathsep}{inherited.get('PATH', '')}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        # On a busy machine SQLite's lock is waited for longer than the 5 seconds after which Airflow's requests fail.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
    }


def run_airflow(environment: dict[str, str], *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """
    Run an ``airflow`` command.

    :raises RuntimeError: with what it printed, when it fails and ``check`` is set
    """
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        raise RuntimeError(f"airflow {' '.join(arguments[:2])} failed:\n{done.stdout}\n{done.stderr}")
    return done
