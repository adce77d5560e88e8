"""Emit Airflow asset events for stored audio."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_mps.assets import encode_uri
from airflow_provider_mps.exceptions import DestinationError, InvalidRequestError
from airflow_provider_mps.redaction import describe_error, format_path, get_safe_cause, quote_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.providers.common.compat.sdk import Context

MAX_PARTITION_KEY_CHARACTERS = 250
"""Airflow's limit."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that Airflow's database cannot store: the task would fail at its end."""


def parse_partition_key(value: object, outlets: Iterable[Any]) -> str | None:
    """
    Return the argument ``partition_key``; ``None`` if it is not set.

    :param outlets: of the operator; only an ``Asset`` can have a key
    :raises InvalidRequestError: if Airflow would reject the key, or no outlet can have one
    """
    if value is None or value == "":
        return None
    # A template that renders native objects turns e.g. 20260101 into a number.
    key = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if (
        not isinstance(key, str)
        or not key.strip()
        or len(key) > MAX_PARTITION_KEY_CHARACTERS
        or _UNSTORABLE.search(key)
    ):
        raise InvalidRequestError(
            f"partition_key must be a text of 1 to {MAX_PARTITION_KEY_CHARACTERS} characters, not "
            f"{quote_value(value)}. Nothing was submitted or stored."
        )
    if not any(isinstance(outlet, Asset) for outlet in outlets):
        raise InvalidRequestError(
            "partition_key needs an Asset in outlets: events of an AssetAlias cannot have a key. Nothing was submitted "
            "or stored."
        )
    return key


def validate_asset_outlets(outlets: Iterable[Any], uri: str, subject: str) -> None:
    """
    Check before the transfer that the destination can be an asset, if an alias in the outlets needs one.

    :param uri: of the destination, without a connection id
    :param subject: the task or batch whose audio it is, for the error
    :raises DestinationError: if the outlets have an ``AssetAlias`` and Airflow rejects the URI
    """
    if not any(isinstance(outlet, AssetAlias) for outlet in outlets):
        return
    try:
        Asset(encode_uri(uri))
    except ValueError as error:
        raise DestinationError(
            f"The audio of {subject} was not stored: {format_path(uri)} cannot be an asset ({describe_error(error)}), "
            "which the alias in outlets needs. Choose another destination, or remove the alias."
        ) from get_safe_cause(error)


def add_asset_events(  # noqa: PLR0917 - what an event has
    context: Context,
    outlets: Iterable[Any],
    uri: str,
    extra: Mapping[str, Any],
    partition_key: str | None = None,
    log: Any = None,
) -> None:
    """
    Add an event for each asset and alias in the outlets.

    An ``AssetAlias`` gets an event of the asset with the percent-encoded ``uri``; an ``Asset`` keeps its own URI. The
    extra of both has the plain ``uri``, which ``ObjectStoragePath`` can open.

    :param outlets: of the operator; other outlets are ignored
    :param uri: of the audio, without a connection id
    :param extra: further entries for the extra of each event
    :param partition_key: of the events of assets, from Airflow 3.3. The extra of every event has it, too
    :param log: gets a warning if Airflow has no partition keys
    """
    extra = {"uri": uri, **extra, **({"partition_key": partition_key} if partition_key else {})}
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            context["outlet_events"][outlet].add(Asset(encode_uri(uri)), extra=extra)
        elif isinstance(outlet, Asset):
            event = context["outlet_events"][outlet]
            event.extra.update(extra)
            if partition_key and hasattr(event, "add_partitions"):
                event.add_partitions(partition_key)
            elif partition_key:
                log.warning(
                    "This Airflow has no partition keys of asset events, which need 3.3 or later: partition_key is "
                    "only in the extra of the event"
                )
