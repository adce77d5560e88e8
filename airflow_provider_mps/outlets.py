"""Tell Airflow's assets about an audio that has been stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.providers.common.compat.sdk import Context


def add_asset_events(context: Context, outlets: Iterable[Any], uri: str, extra: Mapping[str, Any]) -> None:
    """
    Give each outlet an event of the audio.

    An ``AssetAlias`` gets one of the asset at ``uri``; an ``Asset`` of a fixed URI gets ``uri`` with its extra.

    :param context: of the running task
    :param outlets: of its operator, whatever they are
    :param uri: where the audio is, without a connection id
    :param extra: what consumers shall know of it
    """
    told = {"uri": uri, **extra}
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            # Airflow would cut a URI at these, and take different clips for one.
            asset = Asset(uri.replace("#", "%23").replace("?", "%3F"))
            context["outlet_events"][outlet].add(asset, extra=told)
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(told)
