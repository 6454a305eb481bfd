"""A pytest plugin: lets sigstore-conformance's verification cases run without network.

The suite fetches an identity token for its signing tests, which need the network anyway; its verification tests only
look at the token's form. This gives them an unsigned one. docs/release/conformance.md says how to run the suite.
"""

from __future__ import annotations

import base64
import json
import time
from types import SimpleNamespace

import urllib3


def _unsigned_token() -> bytes:
    now = int(time.time())
    header = {"alg": "none"}
    claims = {
        "iss": "https://offline.invalid",
        "email": "nobody@offline.invalid",
        "aud": "sigstore",
        "iat": now,
        "exp": now + 86_400,
    }
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    return b".".join([*parts, b"c2ln"])


urllib3.request = lambda *_args, **_options: SimpleNamespace(data=_unsigned_token())  # type: ignore[assignment]
