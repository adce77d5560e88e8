"""An answer's envelope: from an HTTP status and a body to the ``Response`` object, or to the error that it holds."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.errors import INVALID_RESPONSE, api_error
from airflow_provider_mps.redaction import redact

if TYPE_CHECKING:
    from airflow_provider_mps.errors import MpsApiError

MAX_BYTES = 1024 * 1024
"""Far more than either call answers."""
_QUOTED = 200
"""Characters of an answer that are quoted."""


def read_answer(status: int, body: bytes) -> dict[str, Any]:
    """
    Return the ``Response`` object.

    The SDK's own reading looks for an error only where the content type is spelled as it expects, and stumbles over
    an error without a RequestId.

    :raises MpsApiError: when the answer is no answer of the API, or holds an error
    """
    if status != HTTPStatus.OK:
        raise api_error("ServerNetworkError", f"HTTP {status} instead of an answer of the API: {_quote(body)}")
    if len(body) > MAX_BYTES:
        raise _unreadable(f"it has more than {MAX_BYTES} bytes")
    try:
        answer = storable(json.loads(body))
    except (ValueError, RecursionError):
        raise _unreadable(f"it is not JSON: {_quote(body)}") from None
    response = answer.get("Response") if isinstance(answer, dict) else None
    if not isinstance(response, dict):
        raise _unreadable(f"it has no Response object: {_quote(body)}")
    if response.get("Error") is not None:
        raise _refusal(response["Error"], response)
    return response


def storable(value: Any) -> Any:
    """
    Return a value of JSON without what JSON can spell, and neither a log nor a database can hold.

    That is half of a surrogate pair, and the character NUL.

    :raises ValueError: when it cannot be spelled
    :raises RecursionError: when it is too deep
    """
    spelled = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return json.loads(spelled.replace(rb"\u0000", rb"\ufffd"))


def _refusal(error: object, response: dict[str, Any]) -> MpsApiError:
    request_id = str(response.get("RequestId") or "")[:_QUOTED]
    if not isinstance(error, dict) or not isinstance(error.get("Code"), str):
        return api_error(INVALID_RESPONSE, "the answer's Error has no Code", request_id)
    return api_error(error["Code"][:_QUOTED], redact(str(error.get("Message")))[:_QUOTED], request_id)


def _unreadable(problem: str) -> MpsApiError:
    return api_error(INVALID_RESPONSE, f"the answer cannot be read, {problem}")


def _quote(body: bytes) -> str:
    """Quote the beginning of what is no answer of MPS; a server may repeat a request's headers in it."""
    return repr(redact(body[: 4 * _QUOTED].decode("utf-8", "replace"))[:_QUOTED]) if body else "nothing"
