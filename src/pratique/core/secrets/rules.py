"""The rules: what each kind of secret looks like, and what to do about one.

Every pattern is matched where an anchor stands, never searched for, and ends after a bounded number of characters. An
anchor that continues a token is passed over, so that no text is looked at again and again: time is linear in the text.
Repetitions inside a repetition are possessive: where two can take the same characters, to try all the ways of sharing
them out takes minutes for a line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pratique.core.secrets.assignments import find_assignment, find_url_password
from pratique.core.secrets.looks import entropy_bits, is_aws_key_id, is_aws_secret, is_placeholder
from pratique.core.secrets.model import Rule
from pratique.core.secrets.named import (
    find_authorization,
    find_azure_key,
    find_registry_auth,
    find_session_token,
)
from pratique.core.secrets.tokens import is_github_token, is_jwt, is_npm_token, is_pratique_key

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RULES", "rule_named"]

_ROTATE: Final = "Revoke it where it was issued, issue a new one, and keep that in a secret store."
_WORD: Final = re.compile(r"[A-Za-z0-9_-]")
_MIN_TOKEN_BITS: Final = 3.4


def _any(_token: str) -> bool:
    return True


def _is_random(token: str) -> bool:
    return not is_placeholder(token) and entropy_bits(token) >= _MIN_TOKEN_BITS


def _token(pattern: str, check: Callable[[str], bool] = _is_random) -> Callable[[str, int], tuple[int, int] | None]:
    compiled = re.compile(rf"(?:{pattern})(?![A-Za-z0-9_])")

    def find(text: str, at: int) -> tuple[int, int] | None:
        if at and _WORD.match(text[at - 1]):
            return None
        found = compiled.match(text, at)
        return found.span() if found and check(found.group()) else None

    return find


def _find_jwt(text: str, at: int) -> tuple[int, int] | None:
    if at and (_WORD.match(text[at - 1]) or text[at - 1] in "./+"):
        return None
    found = _JWT.match(text, at)
    return found.span() if found and is_jwt(found.group()) else None


_JWT: Final = re.compile(r"eyJ[\w-]{10,2000}\.eyJ[\w-]{10,6000}\.[\w-]{20,2000}", re.ASCII)
_PEM: Final = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:\\[nr]|[\s\"',+|>\\]){1,40}+"
    r"(?:(?:Proc-Type|DEK-Info|Version|Comment|Charset)[^\n\\]{1,80}+(?:\\[nr]|[\s\"',+\\]){1,40}+){0,4}+"
    r"((?:\\[nr]|[A-Za-z0-9/+=\s\"',]){64,400}+)"
)
_NEAR: Final = 400
_SECRET_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_SECRET_NAME: Final = re.compile(
    r"secret[_\-. ]?(?:access)?[_\-. ]?key(?:[_\-.]?id)?[\"'`\]]{0,2}[ \t]{0,4}(?::=|=>|=|:|,|>|\s)[ \t]{0,4}[\"'`]?"
    r"([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
    re.IGNORECASE,
)


def _find_private_key(text: str, at: int) -> tuple[int, int] | None:
    found = _PEM.match(text, at)
    if not found or is_placeholder(found.group(1)[:40]) or len(set(found.group(1))) < 20:  # noqa: PLR2004 - base64 has 64
        return None
    return found.span(1)


def _find_aws_secret(text: str, at: int) -> tuple[int, int] | None:
    """Find one by its name, or beside an access key id."""
    if text[at] in "sS":
        found = _SECRET_NAME.match(text, at)
        return found.span(1) if found and is_aws_secret(found.group(1)) else None
    if (at and _WORD.match(text[at - 1])) or not is_aws_key_id(text[at : at + 20]):
        return None
    beside = _SECRET_TOKEN.finditer(text, max(0, at - _NEAR), at + _NEAR)
    return next((one.span() for one in beside if is_aws_secret(one.group())), None)


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        id="aws-access-key-id",
        meaning="an access key id of AWS",
        advice="Deactivate the key in IAM, look at CloudTrail for its use, and delete it.",
        anchors=("AKIA", "ASIA"),
        find=_token(r"A[KS]IA[A-Z2-7]{16}", is_aws_key_id),
        shows=4,
    ),
    Rule(
        id="aws-secret-access-key",
        meaning="a secret access key of AWS",
        advice="Deactivate the key in IAM, look at CloudTrail for its use, and delete it.",
        anchors=("secret", "AKIA", "ASIA"),
        find=_find_aws_secret,
    ),
    Rule(
        id="aws-session-token",
        meaning="a session token of AWS",
        advice="Revoke the role's sessions in IAM, and look at CloudTrail for their use.",
        anchors=("token",),
        find=find_session_token,
    ),
    Rule(
        id="github-token",
        meaning="a token of GitHub",
        advice="Revoke it in GitHub's settings (Developer settings), and look at the security log.",
        anchors=("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        find=_token(r"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", is_github_token),
        shows=4,
    ),
    Rule(
        id="gitlab-token",
        meaning="a token of GitLab",
        advice=_ROTATE,
        anchors=("glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glsoat-", "glagent-", "glimt-", "glft-"),
        find=_token(
            r"gl(?:pat|dt|rt|cbt|soat|agent|imt|ft)-(?:[\w-]{27,300}\.[0-9a-z]{2}\.[0-9a-z]{9}|[\w-]{20,64})(?!-)"
            r"|glptt-[0-9a-f]{40}"
        ),
        shows=6,
    ),
    Rule(
        id="slack-token",
        meaning="a token or webhook of Slack",
        advice="Revoke it in the app's settings at Slack.",
        anchors=("xoxb-", "xoxa-", "xoxp-", "xoxr-", "xoxs-", "xoxe-", "xapp-", "hooks.slack.com/services/"),
        find=_token(
            r"xox[baprs]-[0-9]{10,13}-[0-9]{10,13}(?:-[0-9]{10,13})?-[A-Za-z0-9]{24,40}|xapp-1-A[A-Z0-9]{8,12}-[0-9]{10,13}-[0-9a-f]{64}"
            r"|hooks\.slack\.com/services/T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{24}"
        ),
        shows=5,
    ),
    Rule(
        id="stripe-key",
        meaning="a live secret key of Stripe",
        advice="Roll the key in Stripe's dashboard.",
        anchors=("sk_live_", "rk_live_"),
        find=_token(r"[sr]k_live_[A-Za-z0-9]{24,247}"),
        shows=8,
    ),
    Rule(
        id="openai-key",
        meaning="a key of OpenAI",
        advice=_ROTATE,
        anchors=("sk-",),
        find=_token(
            r"sk-(?:(?:proj|svcacct|admin|None)-[\w-]{20,100}T3BlbkFJ[\w-]{20,100}|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})"
        ),
        shows=3,
    ),
    Rule(
        id="anthropic-key",
        meaning="a key of Anthropic",
        advice=_ROTATE,
        anchors=("sk-ant-",),
        find=_token(r"sk-ant-(?:api|admin|oat)[0-9]{2}-[\w-]{80,110}"),
        shows=7,
    ),
    Rule(
        id="huggingface-token",
        meaning="a token of Hugging Face",
        advice=_ROTATE,
        anchors=("hf_", "api_org_"),
        find=_token(r"(?:hf_|api_org_)[A-Za-z0-9]{34}"),
        shows=3,
    ),
    Rule(
        id="pypi-token",
        meaning="a token of PyPI",
        advice="Remove it at PyPI, and look at the project's security history.",
        anchors=("pypi-AgE",),
        find=_token(r"pypi-AgE(?:IcHlwaS5vcmc|NdGVzdC5weXBpLm9yZw)[\w-]{50,1000}"),
        shows=5,
    ),
    Rule(
        id="npm-token",
        meaning="a token of npm",
        advice="Revoke it: npm token revoke.",
        anchors=("npm_",),
        find=_token(r"npm_[A-Za-z0-9]{36}", is_npm_token),
        shows=4,
    ),
    Rule(
        id="google-api-key",
        meaning="an API key of Google",
        advice="Restrict or delete it in the Cloud console.",
        anchors=("AIza",),
        find=_token(r"AIza[\w-]{35}(?!-)"),
        shows=4,
    ),
    Rule(
        id="google-client-secret",
        meaning="a client secret of Google",
        advice="Reset it in the Cloud console.",
        anchors=("GOCSPX-",),
        find=_token(r"GOCSPX-[\w-]{28}(?!-)"),
        shows=7,
    ),
    Rule(
        id="sendgrid-key",
        meaning="a key of SendGrid",
        advice=_ROTATE,
        anchors=("SG.",),
        find=_token(r"SG\.[\w-]{22}\.[\w-]{43}(?!-)"),
        shows=3,
    ),
    Rule(
        id="digitalocean-token",
        meaning="a token of DigitalOcean",
        advice=_ROTATE,
        anchors=("dop_v1_", "doo_v1_", "dor_v1_"),
        find=_token(r"do[opr]_v1_[0-9a-f]{64}"),
        shows=7,
    ),
    Rule(
        id="vault-token",
        meaning="a token of Vault",
        advice="Revoke it: vault token revoke.",
        anchors=("hvs.", "hvb."),
        find=_token(r"hv[sb]\.[\w-]{90,300}"),
        shows=4,
    ),
    Rule(
        id="age-key",
        meaning="an identity of age",
        advice="Encrypt anew, for another identity, what it opens.",
        anchors=("AGE-SECRET-KEY-1",),
        find=_token(r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}"),
        shows=16,
    ),
    Rule(
        id="azure-key",
        meaning="a key of an Azure account",
        advice="Rotate the account's keys in the portal.",
        anchors=("accountkey", "accesskey"),
        find=find_azure_key,
    ),
    Rule(
        id="private-key",
        meaning="a private key",
        advice="Replace the pair wherever its public half is trusted.",
        anchors=("-----BEGIN ",),
        find=_find_private_key,
    ),
    Rule(
        id="jwt",
        meaning="a signed token (JWT)",
        advice="End its session, and rotate the signing key where it was long-lived.",
        anchors=("eyJ",),
        find=_find_jwt,
        shows=3,
    ),
    Rule(
        id="pratique-api-key",
        meaning="an API key of pratique",
        advice="Revoke it: pratique keys revoke ID.",
        anchors=("pk_",),
        find=_token(r"pk_[\w-]{43}(?!-)", is_pratique_key),
        shows=3,
    ),
    Rule(
        id="registry-auth",
        meaning="credentials of a registry",
        advice="Change the password or revoke the token at the registry, and log in again.",
        anchors=('"auth"', '\\"auth\\"', "_auth=", "_auth =", "token"),
        find=find_registry_auth,
    ),
    Rule(
        id="authorization-header",
        meaning="credentials in a header",
        advice=_ROTATE,
        anchors=("authorization",),
        find=find_authorization,
    ),
    Rule(
        id="password-in-url",
        meaning="a URL with a password",
        advice="Change the password, and give it apart from the URL.",
        anchors=("://",),
        find=find_url_password,
    ),
    Rule(
        id="generic-secret",
        meaning="a random value that is named like a secret",
        advice=_ROTATE,
        anchors=("passw", "passphrase", "pwd", "secret", "token", "api_key", "apikey", "api-key", "access_key",
                 "accesskey", "access-key", "auth_key", "private_key", "encryption_key", "signing_key", "credential"),
        find=find_assignment,
    ),
)  # fmt: skip


def rule_named(name: str) -> Rule:
    """Return a rule by its id."""
    return next(rule for rule in RULES if rule.id == name)
