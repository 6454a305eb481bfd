"""Texts with and without secrets, made up from a seed: by them precision and recall are measured.

No secret stands in this file: each is put together at run time, in its issuer's format with its right checksum, and
stands in a context as people leave them. The others look alike: hashes, identifiers, keys that are public, examples.
"""

# ruff: noqa: E501 - one kind of text stands in one line

from __future__ import annotations

import base64
import hashlib
import json
import string
import uuid
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from pratique.core.secrets.text import find_hits
from pratique.core.secrets.tokens import crc32_base62

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Case", "Score", "assess", "false_cases", "table", "true_cases"]

_ALNUM: Final = string.ascii_letters + string.digits
_URLSAFE: Final = _ALNUM + "-_"
_BASE32: Final = string.ascii_uppercase + "234567"
_HEX: Final = "0123456789abcdef"
_BECH32: Final = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A text; `rule` is what should be found in it, "" where nothing should."""

    rule: str
    text: str
    kind: str


def _of(random: Random, alphabet: str, size: int) -> str:
    return "".join(random.choices(alphabet, k=size))


def _key_id(random: Random) -> str:
    account = random.randrange(10**11, 10**12)
    head = ((1 << 47) | (account << 7) | random.getrandbits(7)).to_bytes(6, "big")
    return random.choice(("AKIA", "ASIA")) + base64.b32encode(head + random.randbytes(4)).decode()


def _github(random: Random) -> str:
    if random.random() < 0.3:  # noqa: PLR2004 - the fine-grained share
        return f"github_pat_{_of(random, _ALNUM, 22)}_{_of(random, _ALNUM, 59)}"
    body = _of(random, _ALNUM, 30)
    return f"gh{random.choice('pousr')}_{body}{crc32_base62(body)}"


def _npm(random: Random) -> str:
    body = _of(random, _ALNUM, 30)
    return f"npm_{body}{crc32_base62(body)}"


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _jwt(random: Random) -> str:
    claims = {"sub": str(uuid.UUID(int=random.getrandbits(128))), "iat": random.randrange(10**9), "scope": "read"}
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    return ".".join([*(_encode(json.dumps(part).encode()) for part in parts), _encode(random.randbytes(64))])


def _pem(random: Random) -> str:
    kind = random.choice(("RSA ", "EC ", "OPENSSH ", ""))
    body = base64.encodebytes(random.randbytes(600)).decode()
    if random.random() < 0.3:  # noqa: PLR2004 - the share of keys with a passphrase
        body = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{_of(random, _HEX.upper(), 32)}\n\n{body}"
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}-----END {kind}PRIVATE KEY-----"


def _slack(random: Random) -> str:
    if random.random() < 0.3:  # noqa: PLR2004 - the share of webhooks
        return f"https://hooks.slack.com/services/T{_of(random, _BASE32, 8)}/B{_of(random, _BASE32, 10)}/{_of(random, _ALNUM, 24)}"
    return f"xoxb-{random.randrange(10**11, 10**12)}-{random.randrange(10**12, 10**13)}-{_of(random, _ALNUM, 24)}"


def _openai(random: Random) -> str:
    infix = "T3Blbk" + "FJ"
    if random.random() < 0.5:  # noqa: PLR2004 - one half of either format
        return f"sk-{_of(random, _ALNUM, 20)}{infix}{_of(random, _ALNUM, 20)}"
    return f"sk-proj-{_of(random, _URLSAFE, 58)}{infix}{_of(random, _ALNUM, 58)}"


def _aws_pair(random: Random) -> str:
    if random.random() < 0.2:  # noqa: PLR2004 - the share of answers in XML
        return f"<SecretAccessKey>{_of(random, _ALNUM + '+/', 40)}</SecretAccessKey>"
    return f"aws_access_key_id = {_key_id(random)}\naws_secret_access_key = {_of(random, _ALNUM + '+/', 40)}"


def _session_token(random: Random) -> str:
    body = "IQoJb3JpZ2luX2Vj" + base64.b64encode(random.randbytes(random.randrange(150, 600))).decode()
    shape = random.choice(
        (
            "aws_session_token = {}\n",
            "export AWS_SESSION_TOKEN='{}'\n",
            '"SessionToken": "{}",\n',
            "x-amz-security-token: {}\r\n",
        )
    )
    return shape.format(body)


def _azure(random: Random) -> str:
    if random.random() < 0.3:  # noqa: PLR2004 - the share of service buses
        key = base64.b64encode(random.randbytes(32)).decode()
        return f'"Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=root;SharedAccessKey={key}"\n'
    key = base64.b64encode(random.randbytes(64)).decode()
    return f"STORE=DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={key};EndpointSuffix=core.windows.net\n"


def _basic(random: Random) -> str:
    return base64.b64encode(f"ci:{_of(random, _ALNUM + '-_', random.randrange(16, 40))}".encode()).decode()


def _registry(random: Random) -> str:
    shape = random.choice(
        (
            '{{"auths": {{"ghcr.io": {{"auth": "{}"}}}}}}\n',
            '\t\t\t"auth": "{}"\n',
            "_auth={}\n",
            "//npm.acme.io/:_auth = {}\n",
        )
    )
    if random.random() < 0.3:  # noqa: PLR2004 - the share of npm's tokens
        token = random.choice((str(uuid.UUID(int=random.getrandbits(128))), _of(random, _ALNUM, 36)))
        return f"//registry.acme.io/:_authToken={token}\n"
    return shape.format(_basic(random))


def _header(random: Random) -> str:
    shape = random.choice(
        (
            "Authorization: {}\r\n",
            "curl -H 'Authorization: {}' https://api.acme.io\n",
            'headers = {{"Authorization": "{}"}}\n',
        )
    )
    return shape.format(
        random.choice(
            (f"Basic {_basic(random)}", f"Bearer {_of(random, _ALNUM, 43)}", f"token {_of(random, _HEX, 40)}")
        )
    )


_TOKENS: Final[dict[str, Callable[[Random], str]]] = {
    "aws-access-key-id": _key_id,
    "github-token": _github,
    "gitlab-token": lambda random: f"glpat-{_of(random, _ALNUM, 20)}",
    "slack-token": _slack,
    "stripe-key": lambda random: f"{random.choice('sr')}k_live_{_of(random, _ALNUM, random.choice((24, 99)))}",
    "openai-key": _openai,
    "anthropic-key": lambda random: f"sk-ant-api03-{_of(random, _URLSAFE, 92)}xAA",
    "huggingface-token": lambda random: f"hf_{_of(random, _ALNUM, 34)}",
    "pypi-token": lambda random: "pypi-AgE" + "IcHlwaS5vcmc" + _of(random, _ALNUM, 120),
    "npm-token": _npm,
    "google-api-key": lambda random: "AIza" + _of(random, _ALNUM, 35),
    "google-client-secret": lambda random: "GOCS" + f"PX-{_of(random, _URLSAFE, 27)}x",
    "sendgrid-key": lambda random: f"SG.{_of(random, _URLSAFE, 22)}.{_of(random, _URLSAFE, 42)}x",
    "digitalocean-token": lambda random: f"do{random.choice('opr')}_v1_{_of(random, _HEX, 64)}",
    "vault-token": lambda random: f"hv{random.choice('sb')}.{_of(random, _URLSAFE, 94)}x",
    "age-key": lambda random: "AGE-SECRET-" + f"KEY-1{_of(random, _BECH32, 58)}",
    "jwt": _jwt,
    "pratique-api-key": lambda random: f"pk_{_encode(random.randbytes(32))}",
}
_CONTEXTS: Final = (
    "{name}={value}\n",
    "export {name}={value}\n",
    '{name} = "{value}"\n',
    "{name}: {value}\n",
    '  {name}: "{value}"\n',
    '  "{name}": "{value}",\n',
    "os.environ['{name}'] = '{value}'\n",
    'client = Client("{value}")\n',
    'resource "x" "y" {{\n  {name} = "{value}"\n}}\n',
    "2026-01-02T03:04:05Z INFO sending header {name}: {value}\n",
    "      - run: deploy --key {value}\n        env:\n          CI: true\n",
    '   "source": ["{name} = \\"{value}\\"\\n"],\n',
    "curl -H 'Authorization: Bearer {value}' https://api.acme.io/\r\n",
)
_ASSIGNED: Final = (
    "{name}={value}\n",
    '{name} = "{value}"\n',
    "{name}: {value}\n",
    '  "{name}": "{value}",\n',
    "const {name} = '{value}';\n",
    '   "source": ["{name} = \\"{value}\\"\\n"],\n',
    "{name} := `{value}`\n",
    '"{name}" => "{value}",\r\n',
)
_NAMES: Final = (
    "API_TOKEN",
    "db_password",
    "clientSecret",
    "service-api-key",
    "SMTP_PASSWORD",
    "session_secret",
    "pwd",
)


def true_cases(*, seed: int, per_rule: int) -> list[Case]:
    """Return texts with one kind of secret each, so many of every rule."""
    random = Random(seed)  # noqa: S311 - these open nothing
    made = [
        Case(rule=rule, kind=rule, text=random.choice(_CONTEXTS).format(name="KEY", value=make(random)))
        for rule, make in _TOKENS.items()
        for _ in range(per_rule)
    ]
    for _ in range(per_rule):
        made += [
            Case(rule="aws-secret-access-key", kind="aws-secret-access-key", text=_aws_pair(random)),
            Case(rule="aws-session-token", kind="aws-session-token", text=_session_token(random)),
            Case(rule="azure-key", kind="azure-key", text=_azure(random)),
            Case(rule="registry-auth", kind="registry-auth", text=_registry(random)),
            Case(rule="authorization-header", kind="authorization-header", text=_header(random)),
            Case(rule="private-key", kind="private-key", text=_in_some_file(random, _pem(random))),
            Case(rule="password-in-url", kind="password-in-url", text=_url(random)),
            Case(rule="generic-secret", kind="generic-secret", text=_assignment(random)),
        ]
    return made


def _in_some_file(random: Random, pem: str) -> str:
    return random.choice((f"{pem}\n", json.dumps({"private_key": pem}), "key: |\n  " + pem.replace("\n", "\n  ")))


def _url(random: Random) -> str:
    scheme, host = random.choice(("postgres", "redis", "amqp", "https")), random.choice(("db.acme.io", "10.2.3.4:5432"))
    password = _of(random, _ALNUM + "-_.~", random.randrange(12, 24))
    user = "" if scheme == "redis" else "svc"
    return random.choice(_CONTEXTS).format(name="DATABASE_URL", value=f"{scheme}://{user}:{password}@{host}/main")


def _assignment(random: Random) -> str:
    value = random.choice((_of(random, _HEX, 40), _of(random, _ALNUM, 32), _of(random, _ALNUM + "-_", 24)))
    return random.choice(_ASSIGNED).format(name=random.choice(_NAMES), value=value)


_FALSE: Final[dict[str, Callable[[Random], str]]] = {
    "git sha": lambda random: f"commit {_of(random, _HEX, 40)}\nuses: actions/checkout@{_of(random, _HEX, 40)}\n",
    "uuid": lambda random: f'token_id = "{uuid.UUID(int=random.getrandbits(128))}"\nsecret: {uuid.UUID(int=random.getrandbits(128))}\n',
    "sha256": lambda random: f"--hash=sha256:{hashlib.sha256(random.randbytes(9)).hexdigest()}\n",
    "integrity": lambda random: f'"integrity": "sha512-{base64.b64encode(random.randbytes(64)).decode()}",\n',
    "image": lambda random: f'"image/png": "iVBORw0KGgo{base64.b64encode(random.randbytes(3000)).decode()}",\n',
    "base64": lambda random: f"{base64.encodebytes(random.randbytes(300)).decode()}\n",
    "forty characters": lambda random: f'x = "{_of(random, _ALNUM + "+/", 40)}"\n',
    "minified": lambda random: "".join(
        f"function {_of(random, string.ascii_letters, 2)}({_of(random, 'etnr', 1)}){{return {_of(random, _ALNUM, 3)}}}"
        for _ in range(40)
    ),
    "arn": lambda random: f"secret_arn: arn:aws:secretsmanager:eu-west-1:{random.randrange(10**11, 10**12)}:secret:db-{_of(random, _ALNUM, 6)}\n",
    "public key": lambda random: f"ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB{base64.b64encode(random.randbytes(256)).decode()} me@host\n",
    "certificate": lambda random: f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(random.randbytes(700)).decode()}-----END CERTIFICATE-----\n",
    "reference": lambda random: f"password: ${{{random.choice(('DB_PASSWORD', 'SMTP_PASSWORD', 'ROOT_PASSWORD_2'))}}}\ntoken = os.environ['X_TOKEN']\n",
    "call": lambda random: f"token = await client.get_{random.choice(('session', 'access', 'id'))}_token2(request.user_id)\n",
    "documented key": lambda _random: "AWS_ACCESS_KEY_ID=AKIA" + "IOSFODNN7EXAMPLE\n",
    "documented secret": lambda _random: "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY\n",
    "placeholder": lambda random: f'{random.choice(_NAMES)} = "{random.choice(("changeme-please-now1", "your-api-key-here", "xxxxxxxxxxxxxxxxxxxx", "<your-token-goes-here>", "test-token-12345-abc"))}"\n',
    "wrong checksum": lambda random: f"ghp_{_of(random, _ALNUM, 36)} npm_{_of(random, _ALNUM, 36)}\n",
    "local url": lambda random: f"redis://svc:{_of(random, _ALNUM, 14)}@{random.choice(('localhost', '127.0.0.1', 'db', 'db.example.com'))}:6379/0\n",
    "url with words": lambda random: f"postgres://{random.choice(('postgres:postgres', 'user:password', 'app:secret', 'svc:${PASSWORD}'))}@db.acme.io/x\n",
    "etag": lambda random: f'ETag: "{_of(random, _HEX, 32)}"\nX-Request-Id: {_of(random, _ALNUM, 24)}\n',
    "page token": lambda random: f'"nextPageToken": "{_of(random, _ALNUM, 40)}", "NextToken": "{_of(random, _ALNUM, 32)}"\n',
    "password hash": lambda random: f"password_hash = '$2b$12${_of(random, _ALNUM + './', 53)}'\npassword_sha256: {_of(random, _HEX, 64)}\n",
    "identifier": lambda random: f"secret_name = '{random.choice(('prod/api/service-account-key', 'internalServiceAccountCredentials', 'my-app_db-password_v2'))}'\n",
    "requirement": lambda random: f'"{random.choice(("tokenizers", "detect-secrets", "token-lib"))}": "{random.choice(("tokenizers>=0.23.1,<0.24.0", "detect-secrets[gibberish]==1.5.0", "PyTokenLib2~=1.4.0rc1,!=1.4.2"))}",\n',
    "vocabulary": lambda random: f'"token_bytes": "{base64.b64encode(random.randbytes(14)).decode()}",\n',
    "type": lambda random: f"def login(password: {random.choice(('SecretStrWithMinLength8', 'Annotated[str, Field()]', 'str | None'))}, token: TokenResponseModelV2) -> None: ...\n",
    "header of words": lambda random: f"Authorization: {random.choice(('Bearer <your-access-token-here>', 'Bearer ${GITHUB_ACCESS_TOKEN_V2}', 'Bearer your-api-token-goes-here', 'Basic dXNlcjpwYXNzd29yZA==', 'Basic realm=AccessToTheStagingSite'))}\n",
    "registry without a password": lambda random: f'"auth": "{random.choice(("required", "dXNlcjpwYXNzd29yZA==", "basic_authentication", base64.b64encode(random.randbytes(24)).decode()))}"\n_authToken=${{NPM_TOKEN}}\n_auth = {random.choice(("authenticate_user_by_token", "OAuth2PasswordBearer", "basic"))}\n',
    "emulator": lambda _random: "AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1" + "OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==\n",
    "session identifier": lambda random: f'session_token = "{uuid.UUID(int=random.getrandbits(128))}"\nsecurity_token: {_of(random, "ab", 120)}\n',
    "short tokens": lambda random: f"SG.{_of(random, _ALNUM, 20)}.x hvs.{_of(random, _ALNUM, 20)} dop_v1_{_of(random, _HEX, 20)} GOCSPX-x age1{_of(random, _BECH32.lower(), 58)}\n",
    "port in a url": lambda random: f"http://:{random.randrange(10**4, 6 * 10**4)}/x proxy://:{random.randrange(10**7, 10**8)}@host.acme.io\n",
    "signed example": lambda random: f"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{_encode(json.dumps({'sub': '1234567890', 'name': 'John Doe', 'iat': 1516239022}).encode())}.{_encode(random.randbytes(32))}\n",
}  # fmt: skip


def false_cases(*, seed: int, per_kind: int) -> list[Case]:
    """Return texts without a secret, so many of every kind."""
    random = Random(seed)  # noqa: S311 - as above
    return [Case(rule="", kind=kind, text=make(random)) for kind, make in _FALSE.items() for _ in range(per_kind)]


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one rule did."""

    rule: str
    cases: int
    found: int
    """Of its own cases."""
    wrong: int
    """Its hits in texts that should have none of it."""

    @property
    def recall(self) -> float:
        return self.found / self.cases if self.cases else 1.0

    @property
    def precision(self) -> float:
        told = self.found + self.wrong
        return self.found / told if told else 1.0


def assess(cases: Sequence[Case]) -> list[Score]:
    """Scan every case and score every rule."""
    told = [(case, {hit.rule.id for hit in find_hits(case.text)}) for case in cases]
    return [
        Score(
            rule=rule,
            cases=sum(case.rule == rule for case, _ in told),
            found=sum(case.rule == rule and rule in found for case, found in told),
            # A pair of AWS keys is two secrets.
            wrong=sum(rule in found and rule != case.rule and not case.rule.startswith("aws-") for case, found in told),
        )
        for rule in sorted({case.rule for case in cases if case.rule})
    ]


def table(scores: Sequence[Score]) -> str:
    """Return the scores for people."""
    lines = [f"{'rule':24} {'cases':>6} {'recall':>7} {'precision':>9}"]
    lines += [f"{one.rule:24} {one.cases:6} {one.recall:7.3f} {one.precision:9.3f}" for one in scores]
    return "\n".join(lines)
