"""Keep secrets out of messages and logs: the one rule for what may be quoted, and filters for what libraries log."""

from __future__ import annotations

import logging
import re

from airflow.providers.common.compat.sdk import mask_secret

_HIDDEN = "***"
_QUOTED = 300
"""Characters of a library's error that are quoted."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"<>]*)")
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:@]*)(:[0-9]{0,5})?[.,;)\]]*")
_PATTERNS = (
    # A query, which may be a signature, also where a library took it for a part of the name.
    (re.compile(r"(?<=\S)(?:\?|%3F)[^\s'\"<>()?]*(?:=|%3D)[^\s'\"<>]*"), f"?{_HIDDEN}"),
    # user:password@ of a URL, also where the password holds what must be escaped; a port is none.
    (re.compile(r"(?<=://)[^\s/?#@:\[\]]*:(?![0-9]{1,5}(?:[/?#\s'\"),\]]|$))[^\n]*@"), f"{_HIDDEN}@"),
    # The same without a scheme.
    (re.compile(r"(?<![\w/@:*])[^\s/@:'\"<>()\[\]{},=*]+:(?!//)[^\s@'\"<>]+@(?=[\w\[])"), f"{_HIDDEN}@"),
    # What servers and libraries repeat of a request.
    (
        re.compile(
            r"(?i)((?:token|secret|key|passwd|password|signature|sign|sig|credential)\\?['\"]?\s*=\s*\\?['\"]?"
            r"|(?:token|secret|signature)\\?['\"]\s*:\s*\\?['\"]"
            r"|(?:x-tc-token|x-cos-security-token):\s*"
            r"|(?:secret_?(?:access_?)?key|passwd|password)\\?['\"]?\s*:\s*\\?['\"]?)"
            r"[^\s'\"\\&,;<>]+"
        ),
        rf"\1{_HIDDEN}",
    ),
    # The rest of the line: a scheme comes before the credentials.
    (re.compile(r"(?i)((?:authorization|cookie)\\?['\"]?\s*[:=,]\s*\\?['\"]?)[^\n'\"\\<>]+"), rf"\1{_HIDDEN}"),
    # What Python's own parsers quote of a URL.
    (
        re.compile(r"(integer value as |base 10: |netloc |could not convert string to float: )(['\"]).*\2"),
        rf"\1{_HIDDEN}",
    ),
    # A host without a dot may be a key that was pasted into the wrong field.
    (re.compile(r"(Failed to resolve |\bhost=)'(?!localhost')[^'.:]*'"), rf"\1'{_HIDDEN}'"),
)
_READ = 2000
"""Characters of which secrets are looked for: more than is ever quoted, and few enough to take no time."""
_UNQUOTABLE = {
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
"""Errors whose words are a piece of what could not be sent or parsed."""
_USER_WITHOUT_SCHEME = re.compile(r"^//[^/@]*:[^/@]*@")
_POOL = re.compile(r"^(?:HTTPS?Connection(?:Pool)?\([^)]*\)|<[^>]*>): ")


def redact(text: str) -> str:
    """
    Remove user names, passwords and queries of whatever looks like a URL, and values of what is named a secret.

    Only the beginning of a long text is returned.
    """
    text = text[:_READ]
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return _URL.sub(_redact_url, text)


def describe_error(error: BaseException) -> str:
    """Return the type of a library's error and the words at its bottom, without what a URL in them may hold."""
    kind = type(error).__name__
    while (inner := _inner(error)) is not None:
        error = inner
    if type(error).__name__ in _UNQUOTABLE:
        return kind
    words = redact(_POOL.sub("", " ".join(str(error).split())))[:_QUOTED]
    return f"{kind}: {words}" if words else kind


def cause_of(error: BaseException) -> BaseException | None:
    """
    Return what to raise *from*: the error, or ``None`` where its traceback would print what must not be quoted.

    Airflow logs the whole chain of an error.
    """
    link: BaseException | None = error
    while link is not None:
        printed = "\n".join([str(link), *getattr(link, "__notes__", ())])
        # A long text, of which only the beginning is returned, differs, too.
        if type(link).__name__ in _UNQUOTABLE or redact(printed) != printed:
            return None
        if any(cause_of(each) is None for each in getattr(link, "exceptions", ())):
            return None
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return error


def quoted(value: object, limit: int = 100) -> str:
    """Return an argument for an error: numbers and short texts as they are, without what a URL may hold; no dict."""
    if isinstance(value, str):
        if value.lstrip()[:1] in {"{", "["}:
            return f"a text that begins with {value.lstrip()[0]!r}"
        return f"{redact(value)!r:.{limit}}"
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**limit else "a number of many digits"
    if _is_path(value):
        return repr(shown_path(value))
    return f"a value of type {type(value).__name__}"


def shown_path(path: object) -> str:
    """Return a path for an error or a log, without its query and without a password."""
    if not isinstance(path, str) and not _is_path(path):
        return f"of type {type(path).__name__}"
    text = str(path).strip()
    if text[:1] in {"{", "["}:
        return f"(a text that begins with {text[0]!r})"
    path_only = text[:_READ].partition("?")[0]
    return redact(_USER_WITHOUT_SCHEME.sub(f"//{_HIDDEN}@", path_only))[:_QUOTED]


def _is_path(value: object) -> bool:
    return hasattr(value, "as_uri")  # not by its class, whose import is slow


def _inner(error: BaseException) -> BaseException | None:
    """Return what an error of requests or of urllib3 wraps."""
    return next((each for each in (getattr(error, "reason", None), *error.args) if isinstance(each, Exception)), None)


def _redact_url(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    rest, question_mark, _ = rest.partition("?")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if at and (scheme.startswith("http") or ":" in user):  # in other paths it is the id of a connection
        user = _HIDDEN
    if not _HOST_AND_PORT.fullmatch(host):
        host = _HIDDEN
    return f"{scheme}{user}{at}{host}{slash}{path}{f'?{_HIDDEN}' if question_mark else ''}"


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
