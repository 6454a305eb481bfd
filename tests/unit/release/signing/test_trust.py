from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pratique.core.errors import CallerError
from pratique.release.errors import VerificationError
from pratique.release.signing import trust
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.signing.trust import load_trust_root, parse_trust_root

pytestmark = pytest.mark.unit

Root = dict[str, Any]
INSTANCE = ScriptedInstance()


@pytest.fixture
def root() -> Root:
    return INSTANCE.trusted_root()


def test_the_public_instances_root_comes_along_and_nothing_is_fetched() -> None:
    root = load_trust_root()
    assert len(root.logs) >= 2
    assert root.certificate_logs
    assert root.certificate_authorities
    assert all(len(authority.chain) >= 2 for authority in root.timestamp_authorities)


def test_a_root_is_read_from_a_file(tmp_path: Path, root: Root) -> None:
    file = tmp_path / "root.json"
    file.write_bytes(msgspec.json.encode(root))
    assert set(load_trust_root(file).logs) == {INSTANCE.log.id}
    with pytest.raises(CallerError, match="cannot be read"):
        load_trust_root(tmp_path / "none.json")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root.json").write_bytes(b"{}" * 10)
    monkeypatch.setattr(trust, "_MAX_ROOT_BYTES", 10)
    with pytest.raises(CallerError, match="more than 10 bytes"):
        load_trust_root(tmp_path / "root.json")


def test_a_log_with_a_kind_of_key_that_is_not_known_is_left_out(root: Root) -> None:
    newer = msgspec.json.decode(msgspec.json.encode(root["tlogs"][0]))
    newer["publicKey"]["rawBytes"], newer["logId"]["keyId"] = "AAAA", "AAAA"
    root["tlogs"].append(newer)
    assert set(parse_trust_root(msgspec.json.encode(root)).logs) == {INSTANCE.log.id}


@pytest.mark.parametrize(
    "change",
    [
        lambda root: root.update(mediaType="application/json"),
        lambda root: root.pop("mediaType"),
        lambda root: root["tlogs"][0]["publicKey"].pop("validFor"),
        lambda root: root["tlogs"][0]["publicKey"].update(validFor={}),
        lambda root: root["ctlogs"][0]["publicKey"].update(validFor={"start": "yesterday"}),
        lambda root: root["tlogs"][0]["publicKey"].update(validFor={"start": "2026-01-01T00:00:00"}),
        lambda root: root["certificateAuthorities"][0].pop("validFor"),
        lambda root: root["certificateAuthorities"][0].update(certChain={"certificates": []}),
        lambda root: root["timestampAuthorities"][0].update(certChain={"certificates": [{"rawBytes": "AAAA"}]}),
    ],
)
def test_a_malformed_root_makes_nothing_believed(root: Root, change: Callable[[Root], object]) -> None:
    change(root)
    with pytest.raises(VerificationError):
        parse_trust_root(msgspec.json.encode(root))


def test_a_period_begins_and_ends_with_its_ends() -> None:
    start, end = (dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in (1, 2))
    tick = dt.timedelta(microseconds=1)
    period = trust.Period(start, end)
    assert [at in period for at in (start - tick, start, end, end + tick)] == [False, True, True, False]
    assert end + 1000 * tick in trust.Period(start, None)
