"""Keeps secrets out of what the libraries below log by themselves."""

from __future__ import annotations

import logging

from airflow.providers.common.compat.sdk import mask_secret


def keep_secrets_out_of_sdk_log() -> None:
    """Keep the SDK's debug log, which holds tokens, signatures and texts, out of a DAG run at DEBUG."""
    _at_least("tencentcloud_sdk_common", logging.INFO)


def keep_requests_out_of_logs() -> None:
    """Keep out what httpx logs of every request: a line for each of ten thousand buries everything else."""
    _at_least("httpx", logging.WARNING)


def keep_links_out_of_logs() -> None:
    """Keep a link's signature out of what urllib3 logs of every request at DEBUG."""
    logger = logging.getLogger("urllib3.connectionpool")
    if not any(isinstance(known, _WithoutQuery) for known in logger.filters):
        logger.addFilter(_WithoutQuery())


def mask_link(link: str | None) -> None:
    """
    Let Airflow mask what is signed in a link, for at DEBUG it logs each XCom and each button by itself.

    Only for a worker: what a triggerer masks for ten thousand tasks would slow down each line that it logs.
    """
    if query := (link or "").partition("?")[2]:
        mask_secret(query)


class _WithoutQuery(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
        return True


def _at_least(name: str, level: int) -> None:
    logger = logging.getLogger(name)
    if logger.level == logging.NOTSET:  # whoever has set a level of their own keeps it
        logger.setLevel(level)
