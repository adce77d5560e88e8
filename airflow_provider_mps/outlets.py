"""Tell Airflow's assets about an audio that has been stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_mps.assets import encode_uri
from airflow_provider_mps.errors import DestinationError
from airflow_provider_mps.redaction import cause_of, describe_error, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.providers.common.compat.sdk import Context


def require_assets(outlets: Iterable[Any], uri: str, subject: str) -> None:
    """
    Return where an audio at ``uri`` can be told of, so that none is stored and fails its task afterwards.

    :param outlets: of the operator, whatever they are
    :param uri: where the audio will be, without a connection id
    :param subject: whose audio it is, for the error
    :raises DestinationError: when an alias is among them and Airflow takes no asset of that URI
    """
    if not any(isinstance(outlet, AssetAlias) for outlet in outlets):
        return
    try:
        _asset_at(uri)
    except ValueError as error:
        raise DestinationError(
            f"The audio of {subject} was not stored: {shown_path(uri)} cannot be an asset, which the alias in outlets "
            f"asks for ({describe_error(error)}). Choose another destination, or leave the alias out."
        ) from cause_of(error)


def add_asset_events(context: Context, outlets: Iterable[Any], uri: str, extra: Mapping[str, Any]) -> None:
    """
    Give each outlet an event of the audio.

    An ``AssetAlias`` gets one of the asset at ``uri``, percent-encoded; an ``Asset`` of a fixed URI keeps its own. The
    extra of both has ``uri`` as it is, which ``ObjectStoragePath`` can open.

    :param context: of the running task
    :param outlets: of its operator, whatever they are
    :param uri: where the audio is, without a connection id
    :param extra: what consumers shall know of it
    """
    told = {"uri": uri, **extra}
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            context["outlet_events"][outlet].add(_asset_at(uri), extra=told)
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(told)


def _asset_at(uri: str) -> Asset:
    return Asset(encode_uri(uri))
