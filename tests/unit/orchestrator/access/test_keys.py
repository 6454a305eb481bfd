"""API keys, the file they are in, and changes to it: the attacks first."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pratique.core.errors import CallerError
from pratique.orchestrator.access import (
    ApiKeyFile,
    KeysUnavailableError,
    PrincipalKind,
    UnauthenticatedError,
)
from pratique.orchestrator.access.keyring import ApiKeyring, UnknownKeyError
from pratique.orchestrator.access.keys import hash_key, mint_key, parse_keys
from pratique.orchestrator.access.scopes import Scope
from pratique.orchestrator.access.usage import last_used

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.core.clock import ManualClock

pytestmark = pytest.mark.unit


class TestForgedKeys:
    @pytest.mark.parametrize(
        "forge",
        [
            lambda key: "",
            lambda key: "pk_",
            lambda key: key[:-1],
            lambda key: key + "A",
            lambda key: key[3:],
            lambda key: key.upper(),
            lambda key: key.swapcase(),
            hash_key,
            lambda key: "pk_" + hash_key(key),
            lambda key: key * 100,
            lambda key: "pk_" + "é" * 40,
            lambda key: key + "\x00",
            lambda key: key + "\n",
        ],
    )
    def test_a_changed_key_is_refused(self, keyring: ApiKeyring, keys: ApiKeyFile, forge: Callable[[str], str]) -> None:
        _, key = keyring.create("laptop")
        with pytest.raises(UnauthenticatedError):
            keys.verify(forge(key))

    async def test_a_revoked_key_is_refused_within_a_second(
        self, keyring: ApiKeyring, keys: ApiKeyFile, clock: ManualClock
    ) -> None:
        entry, key = keyring.create("laptop")
        _, other = keyring.create("other")
        assert keys.verify(key).principal_id == entry.id
        keyring.revoke(entry.id)
        await clock.advance(1)
        with pytest.raises(UnauthenticatedError):
            keys.verify(key)
        assert keys.verify(other).name == "other"

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[]",
            b"\xff\xfe",
            b'{"keys": 5}',
            b'{"schema_version": 2, "keys": []}',
            b'{"keys": [], "extra": 1}',
            b'{"keys": [{"id": "key_1", "name": "x", "sha256": "short", "created": 0}]}',
            b'{"keys": [{"id": "KEY 1", "name": "x", "sha256": "' + b"0" * 64 + b'", "created": 0}]}',
            b"[" * 100_000,
            b" " * (5 * 1024 * 1024),
        ],
    )
    async def test_a_malformed_file_refuses_every_key_until_it_is_whole(
        self, keyring: ApiKeyring, keys: ApiKeyFile, clock: ManualClock, file: Path, content: bytes
    ) -> None:
        _, key = keyring.create("laptop")
        keys.verify(key)
        whole = file.read_bytes()  # noqa: ASYNC240 - a small file in a test
        file.write_bytes(content)  # noqa: ASYNC240 - see above
        await clock.advance(1)
        for _ in range(3):
            with pytest.raises(KeysUnavailableError):
                keys.verify(key)
        with pytest.raises(KeysUnavailableError):
            keyring.create("another") if len(content) < 1_000_000 else keys.verify(key)
        file.write_bytes(whole)  # noqa: ASYNC240 - see above
        await clock.advance(1)
        assert keys.verify(key).name == "laptop"

    def test_an_id_that_is_there_twice_refuses_the_file(self) -> None:
        entry = {"id": "key_1", "name": "x", "sha256": "0" * 64, "created": 0}
        with pytest.raises(KeysUnavailableError, match="twice"):
            parse_keys(json.dumps({"keys": [entry, entry]}).encode(), origin="file")

    async def test_a_missing_file_refuses_every_key_until_it_is_there(
        self, keyring: ApiKeyring, keys: ApiKeyFile, clock: ManualClock
    ) -> None:
        with pytest.raises(KeysUnavailableError):
            keys.verify(mint_key())
        _, key = keyring.create("laptop")
        await clock.advance(1)
        assert keys.verify(key).kind is PrincipalKind.API_KEY


class TestKeyring:
    def test_only_the_hash_is_stored_and_only_its_owner_reads_it(self, keyring: ApiKeyring, file: Path) -> None:
        _, key = keyring.create("laptop")
        text = file.read_text()
        assert key not in text
        assert key[3:] not in text
        assert hash_key(key) in text
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_keys_hold_enough_randomness_and_differ(self) -> None:
        made = {mint_key() for _ in range(100)}
        assert len(made) == 100
        assert all(len(key) == 3 + 43 for key in made)

    def test_many_at_once_lose_no_key(self, file: Path) -> None:
        with ThreadPoolExecutor(8) as threads:
            made = list(threads.map(lambda n: ApiKeyring(file).create(f"key {n}")[0].id, range(24)))
        assert sorted(one.id for one in ApiKeyring(file).entries()) == sorted(made)
        assert sorted(one.name for one in file.parent.iterdir()) == ["api-keys.json", "api-keys.json.lock"]

    def test_revoking_twice_keeps_the_first_time(self, keyring: ApiKeyring, clock: ManualClock) -> None:
        entry, _ = keyring.create("laptop")
        first = keyring.revoke(entry.id)
        clock._elapsed += 10
        assert keyring.revoke(entry.id) == first

    def test_an_unknown_id_is_the_callers_mistake(self, keyring: ApiKeyring) -> None:
        keyring.create("laptop")
        with pytest.raises(UnknownKeyError):
            keyring.revoke("key_none")

    @pytest.mark.parametrize("name", ["", "x" * 101, "two\nlines", "\x1b[31m"])
    def test_a_name_that_cannot_be_listed_is_refused(self, keyring: ApiKeyring, name: str) -> None:
        with pytest.raises(CallerError):
            keyring.create(name)

    def test_nothing_can_be_listed_or_revoked_without_a_file(self, keyring: ApiKeyring) -> None:
        with pytest.raises(KeysUnavailableError):
            keyring.entries()
        with pytest.raises(KeysUnavailableError):
            keyring.revoke("key_1")

    def test_a_place_that_cannot_be_written_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(KeysUnavailableError, match="cannot be written"):
            ApiKeyring(tmp_path / "file" / "keys").create("laptop")

    def test_a_draft_that_cannot_be_put_in_place_is_removed(
        self, keyring: ApiKeyring, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keyring.create("laptop")

        def fail(*_: object) -> None:
            raise OSError("no space")

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(KeysUnavailableError, match="no space"):
            keyring.create("another")
        assert sorted(one.name for one in file.parent.iterdir()) == ["api-keys.json", "api-keys.json.lock"]
        assert [one.name for one in keyring.entries()] == ["laptop"]


def test_the_lock_of_the_keys_file_is_waited_for_with_a_bound(
    keyring: ApiKeyring, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    keyring.create("laptop")
    monkeypatch.setattr("pratique.orchestrator.access.keyring._LOCK_SECONDS", 0.05)
    handle = os.open(file.with_name("api-keys.json.lock"), os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(KeysUnavailableError, match="for long"):
        keyring.create("another")
    os.close(handle)
    keyring.create("another")


class TestScopesEndsAndRotation:
    async def test_an_expired_key_is_refused_from_its_end_on(
        self, keyring: ApiKeyring, keys: ApiKeyFile, clock: ManualClock
    ) -> None:
        _, key = keyring.create("laptop", expires=clock.epoch() + 60)
        assert keys.verify(key).expires_at == clock.epoch() + 60
        await clock.advance(60)
        with pytest.raises(UnauthenticatedError):
            keys.verify(key)

    def test_a_key_cannot_end_before_it_is_made(self, keyring: ApiKeyring, clock: ManualClock) -> None:
        with pytest.raises(CallerError, match="later than now"):
            keyring.create("laptop", expires=clock.epoch())

    def test_a_file_from_before_scopes_is_read_and_its_keys_do_what_they_did(
        self, file: Path, keys: ApiKeyFile
    ) -> None:
        key = mint_key()
        entry = {"id": "key_old", "name": "old", "sha256": hash_key(key), "created": 0, "revoked": None}
        file.parent.mkdir()
        file.write_text(json.dumps({"schema_version": 1, "keys": [entry]}))
        principal = keys.verify(key)
        assert principal.principal_id == "key_old"
        assert principal.scopes == {Scope.CHAT, Scope.OPENAI}

    def test_a_file_is_still_read_by_older_replicas_while_no_key_uses_what_is_new(
        self, keyring: ApiKeyring, file: Path
    ) -> None:
        keyring.create("plain")
        [stored] = json.loads(file.read_text())["keys"]
        assert stored.keys() <= {"id", "name", "sha256", "created", "revoked"}

    def test_a_key_has_the_scopes_it_was_given_and_no_more(self, keyring: ApiKeyring, keys: ApiKeyFile) -> None:
        _, key = keyring.create("laptop", scopes=[Scope.OPENAI, Scope.OPENAI], tier="partners")
        principal = keys.verify(key)
        assert (principal.scopes, principal.tier) == (frozenset({Scope.OPENAI}), "partners")

    async def test_a_rotated_key_takes_over_and_the_old_one_ends_after_the_overlap(
        self, keyring: ApiKeyring, keys: ApiKeyFile, clock: ManualClock
    ) -> None:
        entry, old = keyring.create("laptop", scopes=[Scope.CHAT], tier="t")
        renewed, new = keyring.rotate(entry.id, overlap_seconds=100)
        again, third = keyring.rotate(renewed.id, overlap_seconds=50)
        for key in (old, new, third):
            found = keys.verify(key)
            assert found.principal_id == entry.id
            assert (found.scopes, found.tier) == (frozenset({Scope.CHAT}), "t")
        await clock.advance(50)
        with pytest.raises(UnauthenticatedError):
            keys.verify(new)
        keys.verify(old)
        await clock.advance(50)
        with pytest.raises(UnauthenticatedError):
            keys.verify(old)
        assert keys.verify(third).principal_id == entry.id != again.id

    async def test_a_rotated_key_lives_as_long_as_its_predecessor_did(
        self, keyring: ApiKeyring, clock: ManualClock
    ) -> None:
        entry, _ = keyring.create("laptop", expires=clock.epoch() + 1000)
        await clock.advance(900)
        renewed, _ = keyring.rotate(entry.id, overlap_seconds=500)
        assert renewed.expires == clock.epoch() + 1000
        # The overlap does not lengthen the old one's life.
        assert keyring.entries()[0].expires == entry.expires

    def test_a_key_that_has_ended_is_not_rotated(self, keyring: ApiKeyring) -> None:
        entry, _ = keyring.create("laptop")
        keyring.revoke(entry.id)
        with pytest.raises(CallerError, match="has ended"):
            keyring.rotate(entry.id, overlap_seconds=1)

    async def test_use_is_noted_by_the_minute(
        self, keyring: ApiKeyring, keys: ApiKeyFile, file: Path, clock: ManualClock
    ) -> None:
        entry, key = keyring.create("laptop")
        assert last_used(file, entry.id) is None
        keys.verify(key)
        first = clock.epoch()
        assert last_used(file, entry.id) == first
        await clock.advance(30)
        keys.verify(key)
        assert last_used(file, entry.id) == first
        await clock.advance(31)
        keys.verify(key)
        assert last_used(file, entry.id) == first + 61

    def test_a_key_is_accepted_where_its_use_cannot_be_noted(
        self, keyring: ApiKeyring, keys: ApiKeyFile, file: Path
    ) -> None:
        _, key = keyring.create("laptop")
        file.with_name(f"{file.name}.used").write_text("in the way")
        assert keys.verify(key).name == keys.verify(key).name == "laptop"
