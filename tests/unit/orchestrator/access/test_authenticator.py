"""From headers to a principal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.ids import SequentialIds
from pratique.orchestrator.access import (
    SESSION_COOKIE,
    ApiKeyFile,
    Authenticator,
    KeysUnavailableError,
    PrincipalKind,
    Scope,
    SessionSigner,
    UnauthenticatedError,
)
from pratique.orchestrator.access.keyring import ApiKeyring
from pratique.orchestrator.access.keys import mint_key
from pratique.orchestrator.access.sessions import MAX_AGE_SECONDS, RENEW_AFTER_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from pratique.core.clock import ManualClock


pytestmark = pytest.mark.unit

SECRET = "s" * 48


def value_of(set_cookie: str) -> str:
    return set_cookie.partition(";")[0].partition("=")[2]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


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
        renewed = authenticator.session(headers)
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

    async def test_headers_that_hold_no_token_need_no_preparation(self, signer: SessionSigner) -> None:
        prepared: list[str] = []

        class Tokens:
            async def prepare(self, text: str) -> None:
                prepared.append(text)

        tokens: Any = Tokens()
        authenticator = Authenticator(sessions=signer, tokens=tokens)
        for headers in ({}, {"authorization": "Basic x"}, bearer("pk_x")):
            await authenticator.prepare(headers)
        await Authenticator(sessions=signer).prepare(bearer("a.b.c"))
        assert prepared == []
        await authenticator.prepare(bearer("a.b.c"))
        assert prepared == ["a.b.c"]

    async def test_whoever_was_let_in_is_refused_once_the_credential_holds_no_more(
        self, signer: SessionSigner, keys: ApiKeyFile, keyring: ApiKeyring, clock: ManualClock
    ) -> None:
        authenticator = Authenticator(sessions=signer, keys=keys, clock=clock)
        entry, key = keyring.create("laptop", scopes=[Scope.CHAT])
        other, ending = keyring.create("ending", expires=clock.epoch() + 60)
        browser, _ = signer.issue()
        laptop, short = (authenticator.authenticate(bearer(text)) for text in (key, ending))
        for principal in (browser, laptop, short):
            authenticator.verify_holds(principal)
        keyring.rotate(entry.id, overlap_seconds=30)
        await clock.advance(1)
        authenticator.verify_holds(laptop)
        await clock.advance(30)
        with pytest.raises(UnauthenticatedError):
            authenticator.verify_holds(laptop)
        authenticator.verify_holds(short)
        keyring.revoke(other.id)
        await clock.advance(1)
        with pytest.raises(UnauthenticatedError):
            authenticator.verify_holds(short)
        await clock.advance(MAX_AGE_SECONDS - 33)
        authenticator.verify_holds(browser)
        await clock.advance(1)
        with pytest.raises(UnauthenticatedError):
            authenticator.verify_holds(browser)

    def test_a_key_that_lost_a_scope_holds_no_more_and_one_that_cannot_be_read_is_not_refused_for_good(
        self, authenticator: Authenticator, keyring: ApiKeyring, keys: ApiKeyFile, file: Path
    ) -> None:
        _, key = keyring.create("laptop", scopes=[Scope.CHAT, Scope.OPENAI])
        principal = authenticator.authenticate(bearer(key))
        for text, error in (
            (file.read_text().replace('"chat",', ""), UnauthenticatedError),
            ("{", KeysUnavailableError),
            ('{"keys": []}', UnauthenticatedError),
        ):
            assert text != file.read_text()
            file.write_text(text)
            keys._looked_at = None
            with pytest.raises(error):
                authenticator.verify_holds(principal)

    def test_where_nobody_is_anonymous_a_cookie_is_nothing(self, signer: SessionSigner) -> None:
        authenticator = Authenticator(sessions=signer, anonymous=False)
        cookie = {"cookie": f"{SESSION_COOKIE}={value_of(signer.issue()[1])}"}
        for attempt in (authenticator.authenticate, authenticator.session):
            for headers in ({}, cookie):
                with pytest.raises(UnauthenticatedError):
                    attempt(headers)
