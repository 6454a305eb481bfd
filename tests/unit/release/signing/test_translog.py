from __future__ import annotations

import datetime as dt
from typing import Any, Literal

import msgspec
import pytest

from pratique.release.errors import VerificationError
from pratique.release.signing.bundle import LogEntry, parse_bundle
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.signing.translog import verify_log_entry
from pratique.release.signing.trust import parse_trust_root

pytestmark = pytest.mark.unit

AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def read(entry: dict[str, Any]) -> LogEntry:
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {}, "tlogEntries": [entry]},
        "messageSignature": {"signature": "c2ln"},
    }
    return parse_bundle(msgspec.json.encode(bundle)).entries[0]


@pytest.mark.parametrize("rekor", [1, 2])
def test_every_leaf_is_proved_in_trees_of_every_shape(rekor: Literal[1, 2]) -> None:
    instance = ScriptedInstance(rekor=rekor)
    root = parse_trust_root(instance.trust_root_json())
    for size in range(1, 10):
        instance.log.add(b"%d" % (size - 1), kind="dsse", version="0.0.1", at=AT)
        for index in range(size):
            entry = instance.log.entry(index, b"%d" % index, kind="dsse", version="0.0.1", at=AT)
            log, at = verify_log_entry(read(entry), root)
            assert log.key.fingerprint == root.logs[instance.log.id].key.fingerprint
            assert at == (AT if rekor == 1 else None)
            other = instance.log.entry((index + 1) % size, b"%d" % index, kind="dsse", version="0.0.1", at=AT)
            if size > 1:
                with pytest.raises(VerificationError, match="does not lead from the entry"):
                    verify_log_entry(read(other), root)


def test_an_entry_for_which_nothing_vouches_is_refused() -> None:
    instance = ScriptedInstance()
    entry = LogEntry(instance.log.id, 0, "dsse", "0.0.1", b"{}", int(AT.timestamp()), None, None)
    with pytest.raises(VerificationError, match="neither an inclusion proof nor a promise"):
        verify_log_entry(entry, parse_trust_root(instance.trust_root_json()))
