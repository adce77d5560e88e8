"""Where COS is for a connection, and how a bucket must be named there. Nothing here does I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_mps.connection_form import DEFAULT_TIMEOUT
from airflow_provider_mps.errors import InvalidMpsConnectionError, InvalidRequestError

if TYPE_CHECKING:
    from airflow_provider_mps.connection import MpsConnection

_OTHER_REGION = "us-east-1"
"""What is signed for where the server is none of Tencent's, and the connection names no region."""
_REGION_IN_HOST = re.compile(r"cos(?:-internal)?\.(?:dualstack\.)?([a-z]+-[a-z0-9-]+)\.\w+\.\w+")
"""A region has a hyphen, which sets it apart from ``accelerate``, the address of every region."""
_BUCKET = r"[a-z0-9][a-z0-9-]*-[0-9]{5,}"
_READ_TIMEOUT = 60.0
"""Seconds without a byte: COS puts an upload of many parts together before it answers."""


@dataclass(frozen=True)
class CosPlace:
    """An S3 API of COS."""

    endpoint: str
    """Its URL; buckets are named in front of its host."""
    region: str
    """What requests are signed for."""
    proxy: str | None = field(default=None, repr=False)
    connect_timeout: float = DEFAULT_TIMEOUT

    @classmethod
    def of(cls, connection: MpsConnection) -> CosPlace:
        """
        Tell where a connection's buckets are.

        :raises InvalidMpsConnectionError: when it tells neither a region nor an endpoint
        """
        if connection.cos_endpoint is None and not connection.region:
            raise InvalidMpsConnectionError(
                f"Connection '{connection.conn_id}' has no Region, so it is unknown where its COS buckets are. Set "
                "Region to the one of the bucket, e.g. ap-singapore, or COS endpoint to its address."
            )
        endpoint = connection.cos_endpoint or f"https://cos.{connection.region}.myqcloud.com"
        host = urlsplit(endpoint).hostname or ""
        if re.match(rf"{_BUCKET}\.cos[.-]", host):
            raise InvalidMpsConnectionError(
                f"Connection '{connection.conn_id}': COS endpoint {endpoint} begins with a bucket, which belongs into "
                f"the path. Set it to {endpoint.replace(host, host.partition('.')[2])}."
            )
        named = _REGION_IN_HOST.fullmatch(host)
        region = named[1] if named else connection.region or _OTHER_REGION
        return cls(endpoint, region, connection.proxy, connection.timeout)

    @property
    def botocore_config(self) -> dict[str, Any]:
        """What botocore must be told, since COS is no AWS."""
        return {
            "s3": {"addressing_style": "virtual"},  # COS refuses buckets in paths since 2024
            "signature_version": "s3v4",
            # Its checksums come behind the body, without a Content-Length; COS refuses that from 8 MB on.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "connect_timeout": self.connect_timeout,
            "read_timeout": max(_READ_TIMEOUT, self.connect_timeout),
            # Never absent: botocore would look for a proxy in the environment by other rules.
            "proxies": {"http": self.proxy, "https": self.proxy} if self.proxy else {},
        }


def require_bucket(bucket: str) -> None:
    """
    Return where a bucket's name has its APPID.

    :raises InvalidRequestError: when it has none
    """
    if bucket and not re.fullmatch(_BUCKET, bucket):
        raise InvalidRequestError(
            f"cos://{bucket} is no bucket of COS: a bucket's name ends in '-' and the APPID of its account, as in "
            "cos://clips-1250000000. The COS console shows it whole."
        )
