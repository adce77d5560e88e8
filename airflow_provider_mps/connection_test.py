"""What the button *Test* of a connection does: a question that costs nothing, and a sentence for who waits for it."""

from __future__ import annotations

import threading
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from airflow_provider_mps.api import describe_call
from airflow_provider_mps.errors import InvalidMpsConnectionError, MpsApiError, disproves_connection
from airflow_provider_mps.redaction import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_mps.api import ApiCall
    from airflow_provider_mps.connection import MpsConnection
    from airflow_provider_mps.text_to_speech import TextToSpeechTask

TEST_TIMEOUT = 9.0
"""Seconds that it may take: a person waits for it, and so may a proxy of the UI."""
NO_SUCH_TASK = "0-airflow-test-connection"


def try_connection(
    conn_id: str,
    look_up: Callable[[], MpsConnection],
    ask: Callable[[MpsConnection, ApiCall[TextToSpeechTask]], object],
) -> tuple[bool, str]:
    """
    Ask for a task that cannot exist: any answer about that task proves that the sensor may ask.

    :param conn_id: the connection, for the sentence
    :param look_up: reads and checks it
    :param ask: makes a call with it, once
    :return: within ten seconds, whether it works, and a sentence for the person who pressed *Test*
    """
    try:
        connection = look_up()
    except InvalidMpsConnectionError as error:
        return False, str(error)
    endpoint = connection.shown_endpoint
    hurried = replace(connection, timeout=min(connection.timeout, TEST_TIMEOUT))

    def verdict() -> tuple[bool, str]:
        try:
            ask(hurried, describe_call(NO_SUCH_TASK))
        except MpsApiError as error:
            if disproves_connection(error.code):
                # Not the connection's id: where a form is tested, Airflow makes one up.
                error.context = f"MPS at {endpoint}"
                return False, str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for a sentence
            is_ours = isinstance(error, InvalidMpsConnectionError) and str(error)
            return False, str(error) if is_ours else f"Connection '{conn_id}' fails with {describe_error(error)}."
        return True, (f"MPS at {endpoint} accepted the credentials, and they may query text-to-speech tasks.")

    verdicts: SimpleQueue[tuple[bool, str]] = SimpleQueue()
    # In a thread, for no time-out of a request bounds looking up a name, or a chain of credentials.
    threading.Thread(target=lambda: verdicts.put(verdict()), daemon=True).start()
    try:
        return verdicts.get(timeout=TEST_TIMEOUT)
    except Empty:
        return False, (
            f"Connection '{conn_id}': {endpoint} gave no answer within {TEST_TIMEOUT:g} seconds. Check "
            "Host (API domain), Port, Schema (scheme) and Proxy, and the network."
        )
