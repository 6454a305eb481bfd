"""Session cookies and the file of the secrets that sign them: the attacks first."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.orchestrator.access import (
    PrincipalKind,
    SecretsUnavailableError,
    SessionSigner,
    UnauthenticatedError,
    load_secrets,
)
from pratique.orchestrator.access.sessions import MAX_AGE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pratique.core.clock import ManualClock

pytestmark = pytest.mark.unit

SECRET, OTHER = "s" * 48, "o" * 48


def value_of(set_cookie: str) -> str:
    return set_cookie.partition(";")[0].partition("=")[2]


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

    def test_its_cookie_cannot_be_read_by_scripts_or_sent_from_elsewhere(
        self, signer: SessionSigner, clock: ManualClock
    ) -> None:
        secure = SessionSigner([SECRET], clock=clock, secure=True)
        _, header = secure.issue()
        # The prefix makes browsers refuse one that another host planted.
        assert header.startswith(f"{secure.cookie_name}=")
        assert secure.cookie_name.startswith("__Host-")
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
