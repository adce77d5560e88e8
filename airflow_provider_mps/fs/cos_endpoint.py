"""The COS endpoint of a connection, and the names of COS buckets. Nothing here does I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_mps.connection_form import DEFAULT_TIMEOUT_SECONDS
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, InvalidRequestError

if TYPE_CHECKING:
    from airflow_provider_mps.api.connection import MpsConnection

_DEFAULT_REGION = "us-east-1"
"""The signing region of an S3 server of another vendor, if the connection has no region."""
_REGION_IN_HOST = re.compile(r"cos(?:-internal)?\.(?:dualstack\.)?([a-z]+-[a-z0-9-]+)\.\w+\.\w+")
"""A region has a hyphen, unlike ``accelerate``, the endpoint of all regions."""
_BUCKET = r"[a-z0-9][a-z0-9-]*-[0-9]{5,}"
_READ_TIMEOUT_SECONDS = 60.0
"""Time without a byte: COS joins all parts of an upload before it responds."""


@dataclass(frozen=True)
class CosEndpoint:
    """The S3 API of COS that a connection uses."""

    endpoint: str
    """The URL; the bucket becomes a subdomain of its host."""
    region: str
    """The region that requests are signed for."""
    proxy: str | None = field(default=None, repr=False)
    connect_timeout: float = DEFAULT_TIMEOUT_SECONDS

    @classmethod
    def from_connection(cls, connection: MpsConnection) -> CosEndpoint:
        """
        Return the endpoint of a connection's buckets.

        :raises InvalidMpsConnectionError: if the connection has neither a region nor a valid endpoint
        """
        if connection.cos_endpoint is None and not connection.region:
            raise InvalidMpsConnectionError(
                f"Connection '{connection.conn_id}' has no Region, so the endpoint of its COS buckets is unknown. "
                "Set Region to the bucket's, e.g. ap-singapore, or set COS endpoint."
            )
        endpoint = connection.cos_endpoint or f"https://cos.{connection.region}.myqcloud.com"
        host = urlsplit(endpoint).hostname or ""
        if re.match(rf"{_BUCKET}\.cos[.-]", host):
            raise InvalidMpsConnectionError(
                f"Connection '{connection.conn_id}': COS endpoint {endpoint} begins with a bucket, which belongs in "
                f"the path. Set it to {endpoint.replace(host, host.partition('.')[2])}."
            )
        named = _REGION_IN_HOST.fullmatch(host)
        region = named[1] if named else connection.region or _DEFAULT_REGION
        return cls(endpoint, region, connection.proxy, connection.timeout)

    @property
    def botocore_config(self) -> dict[str, Any]:
        """The botocore configuration that COS needs, since it differs from AWS."""
        return {
            "s3": {"addressing_style": "virtual"},  # COS rejects buckets in paths since 2024
            "signature_version": "s3v4",
            # botocore appends checksums to the body and omits Content-Length, which COS rejects from 8 MB on.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "connect_timeout": self.connect_timeout,
            "read_timeout": max(_READ_TIMEOUT_SECONDS, self.connect_timeout),
            # Always set: otherwise botocore would get a proxy from the environment, by other rules.
            "proxies": {"http": self.proxy, "https": self.proxy} if self.proxy else {},
        }


def validate_bucket(bucket: str) -> None:
    """
    Check that a bucket's name ends in an APPID.

    :raises InvalidRequestError: if it does not
    """
    if bucket and not re.fullmatch(_BUCKET, bucket):
        raise InvalidRequestError(
            f"cos://{bucket} is not a COS bucket: a bucket's name ends in '-' and the APPID of its account, as in "
            "cos://clips-1250000000. The COS console shows the full name."
        )
