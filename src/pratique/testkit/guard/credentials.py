"""AWS in a run's environment: what is refused, and what is pinned. Decides; changes nothing.

Refused is what the guard cannot take back: keys that look real in the environment variables. Whatever came before the
guard has them, and so has whoever reads the environment of the process that started the run.

Pinned away, and so out of reach before a test can look, is what only leads to credentials: the shared files with their
profiles, single sign-on and credential processes, the endpoints of containers, web identity, instance metadata. A
developer's laptop has files, a build machine has a role: neither is a reason not to run tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pratique.core.secrets.looks import is_aws_key_id, is_aws_secret, is_aws_session_token, is_placeholder, mask
from pratique.testkit.errors import CredentialsFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["DEAD_ENDPOINT", "AwsPins", "find_credentials", "make_pins", "refuse_credentials"]

DEAD_ENDPOINT: Final = "http://127.0.0.1:9/pratique-guard/no-endpoint-was-given"
"""Nothing listens on the discard port; whoever is refused there reads why in the URL."""

_FAKE: Final = "testing"
_NOTHING: Final = "/dev/null"
_BEDROCK: Final = ("ABSK", "bedrock-api-key-")
_LEADS: Final = (
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CREDENTIAL_FILE",
    "AWS_CREDENTIAL_EXPIRATION",
)
_FILES: Final = ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "BOTO_CONFIG")


def _is_bedrock_key(text: str) -> bool:
    return text.startswith(_BEDROCK) and not is_placeholder(text)


_REFUSED: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = {
    "AWS_ACCESS_KEY_ID": (is_aws_key_id, "AKIA"),
    "AWS_SECRET_ACCESS_KEY": (is_aws_secret, ""),
    "AWS_SESSION_TOKEN": (is_aws_session_token, ""),
    "AWS_SECURITY_TOKEN": (is_aws_session_token, ""),
    "AWS_BEARER_TOKEN_BEDROCK": (_is_bedrock_key, ""),
}


@dataclass(frozen=True, kw_only=True)
class AwsPins:
    """What the run's AWS settings become."""

    region: str = "us-east-1"
    endpoint: str = ""
    """Given by the ini value: a URL, `none` to leave it unset, "" for the dead one."""
    keeps_credentials: bool = False


def find_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with credentials that look real: name → masked value."""
    found: dict[str, str] = {}
    for name, (looks_real, prefix) in _REFUSED.items():
        value = environment.get(name, "").strip()
        if looks_real(value):
            found[name] = mask(value, prefix=value[: len(prefix)])
    return found


def refuse_credentials(found: Mapping[str, str]) -> None:
    """Go on only where nothing was found.

    Raises:
        CredentialsFoundError: naming the places, never the secrets.
    """
    if found:
        places = ", ".join(f"{name}={shown}" for name, shown in found.items())
        raise CredentialsFoundError(
            f"This run is refused: AWS credentials that look real are within its reach: {places}.",
            hint=f"Unset them: env {' '.join(f'-u {name}' for name in found)} pytest …. "
            "If the tests are meant to have them, say so: --pratique-allow-credentials.",
        )


def make_pins(
    environment: Mapping[str, str], pins: AwsPins, is_allowed: Callable[[str], bool]
) -> dict[str, str | None]:
    """Return what to set, and with None what to remove. `is_allowed` judges the host of an endpoint."""
    region = {"AWS_REGION": pins.region, "AWS_DEFAULT_REGION": pins.region}
    if pins.keeps_credentials:
        return {**region}
    made: dict[str, str | None] = {
        **dict.fromkeys(_FILES, _NOTHING),
        **dict.fromkeys(_LEADS),
        "AWS_EC2_METADATA_DISABLED": "true",
        **region,
    }
    # A fake that the user set is the user's; what is left of a real pair never is. Real ones were refused before.
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        made[name] = environment.get(name) or _FAKE
    return made | _endpoint_pins(environment, pins, is_allowed)


def _endpoint_pins(
    environment: Mapping[str, str], pins: AwsPins, is_allowed: Callable[[str], bool]
) -> dict[str, str | None]:
    own = {name: url for name, url in environment.items() if name.startswith("AWS_ENDPOINT_URL")}
    made: dict[str, str | None] = {
        name: None for name, url in own.items() if not is_allowed(urlsplit(url).hostname or "")
    }
    # It would make clients pass over every endpoint that is set here.
    made["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = None
    if pins.endpoint == "none":
        made["AWS_ENDPOINT_URL"] = None
    elif pins.endpoint:
        made["AWS_ENDPOINT_URL"] = pins.endpoint
    elif "AWS_ENDPOINT_URL" not in own or "AWS_ENDPOINT_URL" in made:
        made["AWS_ENDPOINT_URL"] = DEAD_ENDPOINT
        # A child process is not watched: it would try the dead endpoint again for half a minute before it says so.
        made["AWS_MAX_ATTEMPTS"] = environment.get("AWS_MAX_ATTEMPTS") or "1"
    return made
