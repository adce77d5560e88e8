"""
Keep secrets out of errors and logs.

The quoting rule: an error quotes a value only through :func:`quote_value` or :func:`format_path`, and a library's
error only through :func:`describe_error` and ``raise ... from get_safe_cause(error)``.
"""

from __future__ import annotations

import logging
import re

from airflow.providers.common.compat.sdk import mask_secret

_HIDDEN = "***"
_MAX_QUOTED_CHARACTERS = 300
# Strings, which the re module compiles at their first use: compiling them takes 2 ms of each import.
_URL = r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"<>]*)"
_HOST_AND_PORT = r"(\[[^\]]*\]|[^:@]*)(:[0-9]{0,5})?[.,;)\]]*"
_PATTERNS = (
    # A URL's query, which may hold a signature. Some libraries percent-encode it as part of the path.
    (r"(?<=\S)(?:\?|%3F)[^\s'\"<>()?]*(?:=|%3D)[^\s'\"<>]*", f"?{_HIDDEN}"),
    # user:password@ of a URL, even if the password should have been escaped; host:port is kept.
    (r"(?<=://)[^\s/?#@:\[\]]*:(?![0-9]{1,5}(?:[/?#\s'\"),\]]|$))[^\n]*@", f"{_HIDDEN}@"),
    # The same without a scheme.
    (r"(?<![\w/@:*])[^\s/@:'\"<>()\[\]{},=*]+:(?!//)[^\s@'\"<>]+@(?=[\w\[])", f"{_HIDDEN}@"),
    # Values with names of secrets: servers and libraries repeat them from requests.
    (
        (
            r"(?i)((?:token|secret|key|passwd|password|signature|sign|sig|credential)\\?['\"]?\s*=\s*\\?['\"]?"
            r"|(?:token|secret|signature)\\?['\"]\s*:\s*\\?['\"]"
            r"|(?:x-tc-token|x-cos-security-token):\s*"
            r"|(?:secret_?(?:access_?)?key|passwd|password)\\?['\"]?\s*:\s*\\?['\"]?)"
            r"[^\s'\"\\&,;<>]+"
        ),
        rf"\1{_HIDDEN}",
    ),
    # Authorization headers and cookies: the whole line, since a scheme precedes the credentials.
    (r"(?i)((?:authorization|cookie)\\?['\"]?\s*[:=,]\s*\\?['\"]?)[^\n'\"\\<>]+", rf"\1{_HIDDEN}"),
    # Values that Python's own parsers quote from a URL.
    (
        r"(integer value as |base 10: |netloc |could not convert string to float: )(['\"]).*\2",
        rf"\1{_HIDDEN}",
    ),
    # A host without a dot, which may be a key that was pasted into the wrong field.
    (r"(Failed to resolve |\bhost=)'(?!localhost')[^'.:]*'", rf"\1'{_HIDDEN}'"),
)
_MAX_SEARCHED_CHARACTERS = 2000
"""More than is ever quoted, and few enough for the patterns to stay fast."""
_UNQUOTED_ERRORS = {
    "InvalidHeader",
    "InvalidProxyURL",
    "InvalidSchema",
    "InvalidURL",
    "LocalProtocolError",
    "LocationParseError",
    "MissingSchema",
    "URLSchemeUnknown",
    "UnsupportedProtocol",
}
"""Errors whose messages repeat what could not be sent or parsed."""
_USER_WITHOUT_SCHEME = r"^//[^/@]*:[^/@]*@"
_POOL = r"^(?:HTTPS?Connection(?:Pool)?\([^)]*\)|<[^>]*>): "


def redact(text: str) -> str:
    """
    Remove user names, passwords and queries of URLs, and values that are named like secrets.

    :return: the text, cut to 2,000 characters
    """
    text = text[:_MAX_SEARCHED_CHARACTERS]
    for pattern, replacement in _PATTERNS:
        text = re.sub(pattern, replacement, text)
    return re.sub(_URL, _redact_url, text)


def describe_error(error: BaseException) -> str:
    """Return a library's error as its type and its innermost message, redacted."""
    kind = type(error).__name__
    while (inner := _get_inner_error(error)) is not None:
        error = inner
    if type(error).__name__ in _UNQUOTED_ERRORS:
        return kind
    message = redact(re.sub(_POOL, "", " ".join(str(error).split())))[:_MAX_QUOTED_CHARACTERS]
    return f"{kind}: {message}" if message else kind


def get_safe_cause(error: BaseException) -> BaseException | None:
    """
    Return the error to ``raise ... from``, or ``None`` if its traceback could print a secret.

    Airflow logs the whole chain of causes and contexts.
    """
    current: BaseException | None = error
    while current is not None:
        printed = "\n".join([str(current), *getattr(current, "__notes__", ())])
        if type(current).__name__ in _UNQUOTED_ERRORS or redact(printed) != printed:  # or too long to be searched
            return None
        if any(get_safe_cause(inner) is None for inner in getattr(current, "exceptions", ())):
            return None
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return error


def quote_value(value: object, limit: int = 100) -> str:
    """Format an argument for an error: a number, a redacted text or path, or the type of any other value."""
    if isinstance(value, str):
        if value.lstrip()[:1] in {"{", "["}:
            return f"a text that begins with {value.lstrip()[0]!r}"
        return f"{redact(value)!r:.{limit}}"
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**limit else "a number of many digits"
    if _is_path(value):
        return repr(format_path(value))
    return f"a value of type {type(value).__name__}"


def format_path(path: object) -> str:
    """Return a path for an error or a log, without its query and password."""
    if not isinstance(path, str) and not _is_path(path):
        return f"of type {type(path).__name__}"
    text = str(path).strip()
    if text[:1] in {"{", "["}:
        return f"(a text that begins with {text[0]!r})"
    path_only = text[:_MAX_SEARCHED_CHARACTERS].partition("?")[0]
    return redact(re.sub(_USER_WITHOUT_SCHEME, f"//{_HIDDEN}@", path_only))[:_MAX_QUOTED_CHARACTERS]


def _is_path(value: object) -> bool:
    return hasattr(value, "as_uri")  # isinstance would need a slow import


def _get_inner_error(error: BaseException) -> BaseException | None:
    """Return the error that an error of requests or urllib3 wraps."""
    return next((each for each in (getattr(error, "reason", None), *error.args) if isinstance(each, Exception)), None)


def _redact_url(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    rest, question_mark, _ = rest.partition("?")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if at and (scheme.startswith("http") or ":" in user):  # otherwise a connection id, as in s3://aws_default@bucket
        user = _HIDDEN
    if not re.fullmatch(_HOST_AND_PORT, host):
        host = _HIDDEN
    return f"{scheme}{user}{at}{host}{slash}{path}{f'?{_HIDDEN}' if question_mark else ''}"


def set_default_log_level(name: str, level: int) -> None:
    """Set the level of a library's logger, unless the user has set one."""
    logger = logging.getLogger(name)
    if logger.level == logging.NOTSET:
        logger.setLevel(level)


def hide_signed_urls_in_logs() -> None:
    """Remove the query from the URLs that urllib3 logs at DEBUG."""
    logging.getLogger("urllib3.connectionpool").addFilter(_remove_query)  # more than once has no effect


def mask_signed_url(url: str | None) -> None:
    """
    Let Airflow mask the query of a signed URL, because it logs XComs and extra links at DEBUG.

    Call this in workers only: in a triggerer, each masked value would slow down every log line.
    """
    if query := (url or "").partition("?")[2]:
        mask_secret(query)


def _remove_query(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    return True
