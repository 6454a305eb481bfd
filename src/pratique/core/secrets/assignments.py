"""Secrets that are known by where they stand: a value that is assigned to a telling name, a password in a URL."""

from __future__ import annotations

import re
from typing import Final

from pratique.core.secrets.local import is_local
from pratique.core.secrets.words import is_random_secret, is_strong_password

__all__ = ["find_assignment", "find_url_password"]

_NAME_HEAD: Final = 40
_NAME_BEFORE: Final = re.compile(r"[A-Za-z0-9_.\-]{0,40}\Z")
_TAIL: Final = re.compile(
    r"([A-Za-z0-9_.\-]{0,40})(?:\\?[\"'`]|\]){0,2}(?:: ?(?:str|string|String|bytes|&str))?"
    r"[ \t]{0,8}(?::=|=>|={1,3}|:)[ \t]{0,8}"
    r"(?:[rbuf]{0,2}(\\?[\"'`])([^\"'`\\\s]{8,256})\\?[\"'`]|([^\s\"'`,;&(){}\[\]<>]{8,256}))"
)
_OTHER_NAME: Final = re.compile(
    r"(?:hash|hashed|digest|sha\d*|md5|checksum|integrity|fingerprint|public|_?pub|[_\-.]id|[_\-.]ids|name|names|url|uri|urls"
    r"|file|files|path|dir|arn|type|types|kind|field|header|length|size|count|limit|max|min|ttl|expires?|expiry|expiration"
    r"|version|format|label|title|hint|help|prompt|regex|pattern|policy|prefix|suffix|placeholder|encrypted|ciphertext"
    r"|sealed|iv|salt|nonce|ref|alias|enabled|required|index|offset|address|location|rotation|status|email|issuer)\Z",
    re.IGNORECASE,
)
_OTHER_HEAD: Final = re.compile(
    r"(?:next|page|continuation|pagination|resume|sync|cursor|stop|start|eos|bos|pad|unk|mask|csrf|xsrf|client_request"
    r"|public|encrypted|hashed|sealed|cancel\w*|cancellation|un|num|max|min|idempotency|upload|nextpage|contract)[_\-.]?\Z",
    re.IGNORECASE,
)
_OTHER_WORDS: Final = ("tokeniz", "token_bytes", "secretar")
"""They begin as an anchor does, and are of language models and people."""
_AUTHORITY: Final = re.compile(
    r"([A-Za-z0-9._~%+\-]{0,64}):([^\s:/?#@\[\]\"'<>]{3,128})"
    r"@([A-Za-z0-9.\-]{1,253}|\[[0-9A-Fa-f:.]+\])"
)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{1,20}\Z")
_EXAMPLE_HOST: Final = re.compile(
    r"(?:.*\.)?(?:example(?:\.(?:com|org|net))?|test|invalid|local|localdomain|internal\.test)\.?|[a-z_\-]+|x+\.\S*",
    re.IGNORECASE,
)


def find_assignment(text: str, at: int) -> tuple[int, int] | None:
    """Find the value that is assigned to the name that an anchor stands in."""
    found = _TAIL.match(text, at) if _is_a_name(text, at) else None
    if found is None:
        return None
    is_quoted = found.group(3) is not None
    span = found.span(3 if is_quoted else 4)
    value = text[slice(*span)]
    if not is_quoted and _is_code(text, span, value):
        return None
    if _is_other_name(text, at, found.group(1)) or not is_random_secret(value):
        return None
    return span


def _is_a_name(text: str, at: int) -> bool:
    """Whether the anchor is a word of a name, and not letters that stand together by chance or in an ARN."""
    start, before = text[at : at + 3], text[at - 1 : at]
    is_cased = start.islower() or start.isupper() or start.istitle()
    is_inside = start.lower() == "pwd" and before.isalnum() and not (start == "Pwd" and before.islower())
    return is_cased and not is_inside and before != ":"


def _is_other_name(text: str, at: int, rest: str) -> bool:
    before = _NAME_BEFORE.search(text, max(0, at - _NAME_HEAD), at)
    head = before.group() if before else ""
    return rest.lower().startswith(_OTHER_WORDS) or bool(_OTHER_NAME.search(rest) or _OTHER_HEAD.search(head))


def _is_code(text: str, span: tuple[int, int], value: str) -> bool:
    """Whether what has no quotes is an expression: a call, an index, a member; or more follows on the line."""
    after = text[span[1] : span[1] + 1]
    return after in {"(", "[", "{", "<"} or ("." in value and not value.startswith("eyJ")) or "->" in value


def find_url_password(text: str, at: int) -> tuple[int, int] | None:
    """Find the password in front of a URL's host, unless the host is this machine or an example."""
    found = _AUTHORITY.match(text, at + 3)
    if found is None or not _SCHEME.search(text, max(0, at - 21), at):
        return None
    user, password, host = found.groups()
    if password == user or is_local(host) or _EXAMPLE_HOST.fullmatch(host) or not is_strong_password(password):
        return None
    return found.span(2)
