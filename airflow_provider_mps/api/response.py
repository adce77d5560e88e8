"""Parse the response of an API call: the ``Response`` object, or the error in it."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.error_codes import INVALID_RESPONSE
from airflow_provider_mps.exceptions import make_api_error
from airflow_provider_mps.redaction import redact
from airflow_provider_mps.speech.task import make_storable

if TYPE_CHECKING:
    from airflow_provider_mps.exceptions import MpsApiError

MAX_RESPONSE_BYTES = 1024 * 1024
"""Far more than any response without audio."""
_MAX_QUOTED_CHARACTERS = 200


def parse_response(status: int, body: bytes | bytearray, max_bytes: int = MAX_RESPONSE_BYTES) -> dict[str, Any]:
    """
    Return the ``Response`` object.

    The SDK's own parser finds an error only if the content type has the spelling that it expects, and fails for an
    error without a ``RequestId``.

    :raises MpsApiError: if the response is not one of the API, or holds an error
    """
    if status != HTTPStatus.OK:
        raise make_api_error("ServerNetworkError", f"HTTP {status} instead of an API response: {_quote(body)}")
    if len(body) > max_bytes:
        raise _make_format_error(f"it has more than {max_bytes} bytes")
    try:
        envelope = make_storable(json.loads(body))
    except (ValueError, RecursionError):
        raise _make_format_error(f"it is not JSON: {_quote(body)}") from None
    response = envelope.get("Response") if isinstance(envelope, dict) else None
    if not isinstance(response, dict):
        raise _make_format_error(f"it has no Response object: {_quote(body)}")
    if response.get("Error") is not None:
        error, limit = response["Error"], _MAX_QUOTED_CHARACTERS
        request_id = str(response.get("RequestId") or "")[:limit]
        if not isinstance(error, dict) or not isinstance(error.get("Code"), str):
            raise make_api_error(INVALID_RESPONSE, "the response's Error has no Code", request_id)
        raise make_api_error(error["Code"][:limit], redact(str(error.get("Message")))[:limit], request_id)
    return response


def _make_format_error(problem: str) -> MpsApiError:
    return make_api_error(INVALID_RESPONSE, f"the response cannot be read, {problem}")


def _quote(body: bytes | bytearray) -> str:
    """Quote the beginning of a body, redacted: a server may repeat the request's headers in it."""
    if not body:
        return "nothing"
    return repr(redact(body[: 4 * _MAX_QUOTED_CHARACTERS].decode("utf-8", "replace"))[:_MAX_QUOTED_CHARACTERS])
