"""A ledger whose writers are killed: it opens, verifies, and holds every entry that was confirmed."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pratique.release.ledger.sqlite import SqliteStore
from pratique.release.ledger.verified import HeadTrust, VerifiedLedger
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import create_key, load_key
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.values import KeyIdentity, digest_of

pytestmark = [pytest.mark.integration]

APPENDER = Path(__file__).with_name("_appender.py")
SECONDS = 60
IMAGE = digest_of(b"image")


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("key") / "head.key"
    create_key(file, kind="ed25519", password=None)
    return file


def start(file: Path, key_file: Path, last: int = 0) -> subprocess.Popen[str]:
    words = [sys.executable, str(APPENDER), str(file), str(key_file), str(last)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def confirmed(said: str) -> dict[int, str]:
    """What was said on whole lines: of the last one, half may have been written."""
    lines = [line.split() for line in said.splitlines(keepends=True) if line.endswith("\n")]
    return {int(index): digest for index, digest in lines if index != "statements"}


@contextlib.contextmanager
def opened(file: Path, key_file: Path) -> Iterator[VerifiedLedger]:
    key = load_key(key_file)
    public = parse_public_key(key.public_key_der)
    trust = HeadTrust(BundleVerifier((public,)), frozenset({KeyIdentity(public.fingerprint)}))
    with contextlib.closing(SqliteStore(file, busy_seconds=10)) as store:
        yield VerifiedLedger.open("releases", store, trust, signer=KeyedSigner(key))


def test_a_writer_killed_before_any_statement_leaves_a_ledger_that_holds_what_was_confirmed(
    tmp_path: Path, key_file: Path
) -> None:
    whole = start(tmp_path / "whole.db", key_file, 1_000_000)
    said, errors = whole.communicate(timeout=SECONDS)
    assert whole.returncode == 0, errors
    statements = int(said.rsplit(None, 1)[1])
    assert statements > 20
    for first in range(1, statements + 1, 4):
        batch = range(first, min(first + 4, statements + 1))
        processes = [(number, start(tmp_path / f"{number}.db", key_file, number)) for number in batch]
        for number, process in processes:
            said, errors = process.communicate(timeout=SECONDS)
            assert process.returncode == -signal.SIGKILL, (number, said, errors)
            with opened(tmp_path / f"{number}.db", key_file) as ledger:
                kept = {entry.index: entry.hash for entry in ledger.entries()}
                assert confirmed(said).items() <= kept.items(), number
                assert ledger.verify() - len(confirmed(said)) in {0, 1}, number
                assert ledger.append("alert", IMAGE, {}, actor="test").index == len(kept)


def test_two_writers_killed_at_any_moment_leave_a_ledger_that_holds_what_was_confirmed(
    tmp_path: Path, key_file: Path
) -> None:
    file = tmp_path / "ledger.db"
    acknowledged: dict[int, str] = {}
    actors: set[str] = set()
    rounds = 3
    for _ in range(rounds):
        processes = [start(file, key_file) for _ in range(2)]
        for process in processes:  # both have begun
            assert process.stdout is not None
            line = process.stdout.readline()
            acknowledged |= confirmed(line)
        time.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - any moment
        for process in processes:
            process.kill()
        for process in processes:
            assert process.stdout is not None
            with process:  # not `communicate`, which knows nothing of what was read ahead with the first line
                acknowledged |= confirmed(process.stdout.read())
        with opened(file, key_file) as ledger:
            kept = {entry.index: entry.hash for entry in ledger.entries()}
            assert acknowledged.items() <= kept.items()
            assert ledger.verify() == len(kept)
            actors = {entry.actor for entry in ledger.entries()}
    assert len(actors) == 2 * rounds
