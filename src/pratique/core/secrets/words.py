"""Whether a value reads as words, code or a label rather than as something random. Decides by the text alone."""

from __future__ import annotations

import re
from typing import Final

from pratique.core.secrets.looks import entropy_bits, is_placeholder

__all__ = ["is_random_secret", "is_strong_password", "word_share"]

_RUN: Final = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{3,}")
_LONG_RUN: Final = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{4,}")
_KINDS: Final = (re.compile("[a-z]"), re.compile("[A-Z]"), re.compile("[0-9]"), re.compile("[^A-Za-z0-9]"))
_HEX: Final = re.compile(r"(?:[0-9a-f]+|[0-9A-F]+)")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CODE: Final = re.compile(r"[A-Za-z_$][\w$]*(?:(?:::|->|[./\[\]-])[\w$]*)*|[A-Za-z_]\w*[(\[{].*")
_LABEL: Final = re.compile(
    r"sha(?:1|256|384|512)[-:]|md5[-:]|\$|\{|<|%|@|&|/|~|\.|-|https?:|arn:|file:|data:|base64,|urn:|git@|ssh-|enc\[|vault:"
    r"|ref:|secret(?:sman)?:|ssm:|op:|env[.:]|os\.|process\.",
    re.IGNORECASE,
)
_VERSION: Final = r"(?:[<>=!~]=|[<>])[0-9][0-9.]*\*?(?:(?:a|b|rc|\.?post|\.?dev)[0-9]+)?"
_REQUIREMENT: Final = re.compile(rf"[A-Za-z][\w.-]*(?:\[[\w.,-]*\])?{_VERSION}(?:,{_VERSION})*")
_REFERENCE: Final = re.compile(r"[$%{<]|\*+\Z")
_COMMON: Final = """
    access account active admin alpha api app application args async auth authorization aws bar base baz
    bearer beta body bool bucket build bundle button bytes cache callback cert char check class client close
    cloud code color command common component config connect content context control cookie count create
    credential credentials current custom data database date debug default delete deploy dev device dict
    digest disable docker domain dummy element empty enable encrypt endpoint engine enter env error event
    export expire external false fetch field file filter first float format foo form frame from full func
    function generate get global google group handler hash header hello hidden host html http image import
    index info init inline input instance int internal item json key kind label last layer length level
    library limit line link list load local lock log login long main manager map master mail message meta
    method metric middle mode model module name native network new next nil node none not null number object
    offset only open option order origin output page param parse part pass passphrase password path
    permission plain pool port post prefix private process prod production project property provider proxy
    public query queue random read ready redirect refresh region register release remote remove replica
    request required reset resource response rest result retry return role root route rule run scope script
    search second secret secure select self send server service session set setting shared sign simple size
    source space spec stage staging start state static status stop storage store stream string strong struct
    style sub super sync system table target task temp test text the this time title token top total trace
    true type undefined unit update upload url use user users username util valid validate value var verify
    version view virtual void wait web window word work world worker write wrong your zone january february
    march april monday summer winter spring autumn welcome correct horse battery staple dragon monkey love
    letmein qwerty
"""
_WORDS: Final = frozenset(_COMMON.split())
_MIN_LENGTH: Final = 16
_MAX_LENGTH: Final = 200
_MIN_BITS: Final = 3.6
_MIN_HEX: Final = 32
_MIN_HEX_BITS: Final = 3.2
_MAX_WORD_SHARE: Final = 0.4
_MAX_RUN_SHARE: Final = 0.5
_MIN_DISTINCT: Final = 6


def word_share(text: str) -> float:
    """Return the part of a text's characters that stands in words that are common in code."""
    words = (run.group() for run in _RUN.finditer(text))
    return sum(len(word) for word in words if _is_word(word.lower())) / len(text) if text else 0.0


def _is_word(word: str) -> bool:
    return word in _WORDS or word.removesuffix("s") in _WORDS or word.removesuffix("ed") in _WORDS


def _num_kinds(text: str) -> int:
    return sum(1 for kind in _KINDS if kind.search(text))


def is_random_secret(value: str) -> bool:
    """Whether a value that is named like a secret is random enough to be one: a key, a token, a generated password."""
    if not _MIN_LENGTH <= len(value) <= _MAX_LENGTH or not value.isascii() or not value.isprintable():
        return False
    if (
        _LABEL.match(value)
        or _UUID.fullmatch(value)
        or _REQUIREMENT.fullmatch(value)
        or is_placeholder(value)
        or "://" in value
        or " " in value
        or value.count(":") > 1
    ):
        return False
    if _HEX.fullmatch(value):
        return len(value) >= _MIN_HEX and not value.isdigit() and entropy_bits(value) >= _MIN_HEX_BITS
    if _CODE.fullmatch(value) and _run_share(value) >= _MAX_RUN_SHARE:
        return False
    return _num_kinds(value) >= 3 and entropy_bits(value) >= _MIN_BITS and word_share(value) < _MAX_WORD_SHARE  # noqa: PLR2004 - of four kinds of character


def _run_share(value: str) -> float:
    """Return the part that stands in runs of letters of one case: identifiers are made of them, and noise has few."""
    return sum(len(run.group()) for run in _LONG_RUN.finditer(value)) / len(value)


def is_strong_password(value: str) -> bool:
    """Whether the password of a URL is one that protects something, and not a word or an example."""
    is_said = is_placeholder(value) or _REFERENCE.match(value) or word_share(value) >= _MAX_WORD_SHARE
    return len(value) >= 8 and not is_said and _num_kinds(value) >= 2 and len(set(value)) >= _MIN_DISTINCT  # noqa: PLR2004 - shorter or of one kind: a word
