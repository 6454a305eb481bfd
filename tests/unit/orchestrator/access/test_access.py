"""Who is let in: the attacks first."""

from __future__ import annotations

import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.core.clock import ManualClock
from pratique.core.errors import CallerError
from pratique.core.ids import SequentialIds
from pratique.orchestrator.access import (
    AFFINITY_HEADER,
    SESSION_COOKIE,
    AccessError,
    ApiKeyFile,
    Authenticator,
    KeysUnavailableError,
    OriginRefusedError,
    PrincipalKind,
    SecretsUnavailableError,
    SessionSigner,
    UnauthenticatedError,
    affinity,
    check_origin,
    load_secrets,
)
from pratique.orchestrator.access.headers import bearer_token, cookie
from pratique.orchestrator.access.keyring import ApiKeyring, UnknownKeyError
from pratique.orchestrator.access.keys import hash_key, mint_key, parse_keys
from pratique.orchestrator.access.sessions import MAX_AGE_SECONDS, RENEW_AFTER_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit

SECRET, OTHER = "s" * 48, "o" * 48


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def signer(clock: ManualClock) -> SessionSigner:
    return SessionSigner([SECRET], clock=clock)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "api-keys.json"


@pytest.fixture
def keyring(file: Path, clock: ManualClock) -> ApiKeyring:
    return ApiKeyring(file, clock=clock)


@pytest.fixture
def keys(file: Path, clock: ManualClock) -> ApiKeyFile:
    return ApiKeyFile(file, clock=clock)


def value_of(set_cookie: str) -> str:
    return set_cookie.partition(";")[0].partition("=")[2]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


class TestForgedSessions:
    @pytest.mark.parametrize(
        "forge",
        [
            lambda value: "",
            lambda value: ".",
            lambda value: "..",
            lambda value: value[:-1],
            lambda value: value[1:],
            lambda value: value.partition(".")[0],
            lambda value: value.rpartition(".")[0],
            lambda value: value.rpartition(".")[0] + ".",
            lambda value: value + "A",
            lambda value: value + "=",
            lambda value: "usr_root" + value[value.index(".") :],
            lambda value: value.replace("usr", "key", 1),
            lambda value: value * 10,
            lambda value: "x" * 1_000_000,
            lambda value: "é" + value,
            lambda value: "\x00" + value,
            lambda value: value.swapcase(),
            lambda value: "\U0001d7d8" * 40,
        ],
    )
    def test_a_changed_cookie_is_refused(self, signer: SessionSigner, forge: Callable[[str], str]) -> None:
        _, header = signer.issue()
        with pytest.raises(UnauthenticatedError):
            signer.verify(forge(value_of(header)))

    def test_another_secrets_cookie_is_refused(self, signer: SessionSigner, clock: ManualClock) -> None:
        _, header = SessionSigner([OTHER], clock=clock).issue()
        with pytest.raises(UnauthenticatedError):
            signer.verify(value_of(header))

    async def test_an_expired_cookie_is_refused(self, signer: SessionSigner, clock: ManualClock) -> None:
        _, header = signer.issue()
        await clock.advance(MAX_AGE_SECONDS)
        signer.verify(value_of(header))
        await clock.advance(1)
        with pytest.raises(UnauthenticatedError):
            signer.verify(value_of(header))

    def test_a_cookie_from_the_future_is_refused(self, signer: SessionSigner, clock: ManualClock) -> None:
        _, header = signer.issue()
        clock._epoch -= 1_000
        with pytest.raises(UnauthenticatedError):
            signer.verify(value_of(header))

    @given(st.text(max_size=300))
    def test_no_text_is_a_session(self, text: str) -> None:
        with pytest.raises(UnauthenticatedError):
            SessionSigner([SECRET]).verify(text)

    @pytest.mark.parametrize("bad", [[], [""], ["short"], [SECRET, "short"]])
    def test_weak_secrets_are_refused(self, bad: list[str]) -> None:
        with pytest.raises(SecretsUnavailableError):
            SessionSigner(bad)


class TestSessions:
    def test_a_session_is_the_same_principal_every_time(self, signer: SessionSigner) -> None:
        principal, header = signer.issue()
        assert signer.verify(value_of(header)).principal == principal
        assert principal.kind is PrincipalKind.SESSION
        assert signer.issue()[0] != principal

    def test_its_cookie_cannot_be_read_by_scripts_or_sent_from_elsewhere(self, signer: SessionSigner) -> None:
        _, header = signer.issue(secure=True)
        attributes = header.split("; ")[1:]
        assert attributes == ["Path=/", f"Max-Age={MAX_AGE_SECONDS}", "SameSite=Lax", "HttpOnly", "Secure"]
        assert "Secure" not in signer.issue()[1]

    def test_a_rotated_secret_verifies_and_the_first_signs(self, clock: ManualClock) -> None:
        old, new = SessionSigner([OTHER], clock=clock), SessionSigner([SECRET, OTHER], clock=clock)
        principal, header = old.issue()
        assert new.verify(value_of(header)).principal == principal
        renewed = value_of(new.renew(principal))
        assert SessionSigner([SECRET], clock=clock).verify(renewed).principal == principal
        with pytest.raises(UnauthenticatedError):
            old.verify(renewed)


class TestSecretFile:
    def test_it_is_made_once_and_readable_by_its_owner_only(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "secret"
        first = load_secrets(path)
        assert load_secrets(path) == first
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [one.name for one in path.parent.iterdir()] == ["secret"]

    def test_many_that_start_together_get_the_same_one(self, tmp_path: Path) -> None:
        barrier = threading.Barrier(8)

        def load(_: int) -> tuple[str, ...]:
            barrier.wait(10)
            return load_secrets(tmp_path / "secret")

        with ThreadPoolExecutor(8) as threads:
            assert len(set(threads.map(load, range(8)))) == 1

    def test_several_lines_are_several_secrets(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_text(f"{SECRET}\n{OTHER}\n")
        path.chmod(0o600)
        assert load_secrets(path) == (SECRET, OTHER)

    @pytest.mark.parametrize(
        ("content", "mode", "message"),
        [
            (b"", 0o600, "must hold"),
            (b"short\n", 0o600, "must hold"),
            (SECRET.encode() + b"\nshort", 0o600, "must hold"),
            (b"\xff" * 60, 0o600, "cannot be used"),
            (SECRET.encode(), 0o644, "others can read"),
            (SECRET.encode(), 0o640, "others can read"),
        ],
    )
    def test_an_unsafe_file_is_refused(self, tmp_path: Path, content: bytes, mode: int, message: str) -> None:
        path = tmp_path / "secret"
        path.write_bytes(content)
        path.chmod(mode)
        with pytest.raises(SecretsUnavailableError, match=message):
            load_secrets(path)

    def test_a_place_that_cannot_be_written_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(SecretsUnavailableError, match="cannot be used"):
            load_secrets(tmp_path / "file" / "secret")


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


class TestHeaders:
    @pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic abc", "pk_abc", "Bearer " + "x" * 5000])
    def test_an_authorization_that_is_no_bearer_token_is_refused(self, value: str) -> None:
        with pytest.raises(UnauthenticatedError):
            bearer_token({"authorization": value})

    @pytest.mark.parametrize("value", ["Bearer pk_a", "bearer pk_a", " BEARER  pk_a "])
    def test_a_bearer_token_is_found(self, value: str) -> None:
        assert bearer_token({"authorization": value}) == "pk_a"
        assert bearer_token({}) is None

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("a=1; name=x; name=y", "x"),
            ('name="x"', "x"),
            ("name=x=y", "x=y"),
            ("name", None),
            ("xname=1;;=; = ", None),
            ("", None),
            ("name=x;" + "a" * 20_000, None),
        ],
    )
    def test_cookies_are_found_in_untidy_headers(self, header: str, value: str | None) -> None:
        assert cookie({"cookie": header}, "name") == value

    @pytest.mark.parametrize(
        "origin",
        [
            "null",
            "",
            "http://evil.example",
            "https://chat.example:444",
            "http://chat.example.evil.example",
            "http://chat.example@evil.example",
            "http://user@chat.example",
            "http://chat.example/path",
            "http://chat.example?x",
            "file://",
            "javascript:alert(1)",
            "chat.example",
            "http://chat.example:99999",
            "http://[::1",
            "http://chat.example:x",
            "ftp://chat.example",
        ],
    )
    def test_a_foreign_origin_is_refused(self, origin: str) -> None:
        with pytest.raises(OriginRefusedError):
            check_origin({"origin": origin, "host": "chat.example"}, allowed=["https://other.example"])

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("http://chat.example", "chat.example"),
            ("https://chat.example", "chat.example:443"),
            ("http://CHAT.example:80", "chat.example"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("https://other.example", "chat.example"),
        ],
    )
    def test_this_hosts_and_allowed_origins_pass(self, origin: str, host: str) -> None:
        check_origin({"origin": origin, "host": host}, allowed=["https://other.example:443"])

    def test_programs_pass_and_cross_site_pages_without_origin_do_not(self) -> None:
        check_origin({"host": "chat.example"})
        check_origin({"sec-fetch-site": "same-origin"})
        with pytest.raises(OriginRefusedError):
            check_origin({"sec-fetch-site": "cross-site"})

    def test_no_host_matches_no_origin(self) -> None:
        with pytest.raises(OriginRefusedError):
            check_origin({"origin": "http://"})

    @given(st.text(max_size=50), st.text(max_size=50))
    def test_any_headers_are_answered_with_yes_or_our_own_no(self, origin: str, host: str) -> None:
        try:
            check_origin({"origin": origin, "host": host})
            bearer_token({"authorization": origin})
        except AccessError:
            pass

    def test_an_affinity_key_is_kept_the_header_first_and_else_issued(self) -> None:
        both = {AFFINITY_HEADER: "from-header", "cookie": "pratique_affinity=from-cookie"}
        assert affinity(both).key == "from-header"
        assert affinity({"cookie": both["cookie"]}).key == "from-cookie"
        assert affinity(both).set_cookie is None
        issued = affinity({}, mint=lambda: "k" * 20, secure=True)
        assert issued.key == "k" * 20
        assert issued.set_cookie is not None
        assert issued.set_cookie.startswith(f"pratique_affinity={'k' * 20}; Path=/;")
        assert issued.set_cookie.endswith("Secure")

    @pytest.mark.parametrize("bad", ["", "short", "x" * 65, "with space", "a\r\nset-cookie: x", "é" * 10])
    def test_a_malformed_affinity_key_is_replaced(self, bad: str) -> None:
        assert affinity({AFFINITY_HEADER: bad}).key != bad


class TestAuthenticator:
    @pytest.fixture
    def authenticator(self, signer: SessionSigner, keys: ApiKeyFile) -> Authenticator:
        return Authenticator(sessions=signer, keys=keys)

    def test_no_credential_is_refused(self, authenticator: Authenticator) -> None:
        for attempt in (authenticator.authenticate, authenticator.authenticate_key):
            with pytest.raises(UnauthenticatedError):
                attempt({})

    def test_a_bad_key_next_to_a_good_cookie_is_refused(
        self, authenticator: Authenticator, signer: SessionSigner, keyring: ApiKeyring
    ) -> None:
        keyring.create("laptop")
        good = {"cookie": f"{SESSION_COOKIE}={value_of(signer.issue()[1])}"}
        for bad in (bearer(mint_key()), {"authorization": "Basic x"}):
            for attempt in (authenticator.authenticate, authenticator.authenticate_key, authenticator.session):
                with pytest.raises(UnauthenticatedError):
                    attempt(good | bad)

    def test_a_cookie_is_no_api_key(self, authenticator: Authenticator, signer: SessionSigner) -> None:
        with pytest.raises(UnauthenticatedError):
            authenticator.authenticate_key({"cookie": f"{SESSION_COOKIE}={value_of(signer.issue()[1])}"})

    def test_without_a_keys_file_no_key_is_accepted(self, signer: SessionSigner) -> None:
        with pytest.raises(UnauthenticatedError, match="no API keys"):
            Authenticator(sessions=signer).authenticate(bearer(mint_key()))

    def test_keys_that_cannot_be_read_do_not_end_sessions(
        self, authenticator: Authenticator, signer: SessionSigner
    ) -> None:
        principal, header = signer.issue()
        with pytest.raises(KeysUnavailableError):
            authenticator.authenticate(bearer(mint_key()))
        assert authenticator.authenticate({"cookie": f"{SESSION_COOKIE}={value_of(header)}"}) == principal

    def test_a_good_key_is_its_principal(self, authenticator: Authenticator, keyring: ApiKeyring) -> None:
        entry, key = keyring.create("laptop")
        for attempt in (authenticator.authenticate, authenticator.authenticate_key):
            principal = attempt(bearer(key))
            assert (principal.principal_id, principal.kind, principal.name) == (
                entry.id,
                PrincipalKind.API_KEY,
                "laptop",
            )
        assert authenticator.session(bearer(key)).set_cookie is None

    async def test_a_session_is_issued_kept_renewed_and_replaced(
        self, authenticator: Authenticator, clock: ManualClock
    ) -> None:
        issued = authenticator.session({})
        assert issued.set_cookie is not None
        headers = {"cookie": f"{SESSION_COOKIE}={value_of(issued.set_cookie)}"}
        assert authenticator.session(headers).principal == issued.principal
        assert authenticator.session(headers).set_cookie is None
        await clock.advance(RENEW_AFTER_SECONDS + 1)
        renewed = authenticator.session(headers, secure=True)
        assert renewed.principal == issued.principal
        assert renewed.set_cookie is not None
        assert value_of(renewed.set_cookie) != value_of(issued.set_cookie)
        await clock.advance(MAX_AGE_SECONDS)
        replaced = authenticator.session(headers)
        assert replaced.principal != issued.principal

    def test_ids_of_sessions_and_keys_cannot_be_taken_for_each_other(
        self, clock: ManualClock, file: Path, keys: ApiKeyFile
    ) -> None:
        entry, _ = ApiKeyring(file, clock=clock, ids=SequentialIds()).create("laptop")
        principal, _ = SessionSigner([SECRET], clock=clock, ids=SequentialIds()).issue()
        assert entry.id.startswith("key_")
        assert principal.principal_id.startswith("usr_")


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
