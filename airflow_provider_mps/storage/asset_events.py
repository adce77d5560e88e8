"""Emit Airflow asset events for stored audio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_mps.assets import encode_uri
from airflow_provider_mps.exceptions import DestinationError
from airflow_provider_mps.redaction import describe_error, format_path, get_safe_cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.providers.common.compat.sdk import Context


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


def add_asset_events(context: Context, outlets: Iterable[Any], uri: str, extra: Mapping[str, Any]) -> None:
    """
    Add an event for each asset and alias in the outlets.

    An ``AssetAlias`` gets an event of the asset with the percent-encoded ``uri``; an ``Asset`` keeps its own URI. The
    extra of both has the plain ``uri``, which ``ObjectStoragePath`` can open.

    :param outlets: of the operator; other outlets are ignored
    :param uri: of the audio, without a connection id
    :param extra: further entries for the extra of each event
    """
    extra = {"uri": uri, **extra}
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            context["outlet_events"][outlet].add(Asset(encode_uri(uri)), extra=extra)
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(extra)
