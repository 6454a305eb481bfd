"""Failed loads in a row, counted outside the process: whatever the file holds, the server's failure goes on."""

from __future__ import annotations

import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pratique.inference.artifacts import failures
from pratique.inference.artifacts.failures import (
    SYSTEMIC,
    count_failures,
    default_failures_file,
    record_failure,
    record_success,
)

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".tiny.failures.json"


def test_the_third_in_a_row_is_systemic_and_a_success_ends_the_row(file: Path) -> None:
    assert [record_failure(file, "a", "壊れた") for _ in range(3)] == [1, 2, SYSTEMIC]
    assert record_failure(file, "b", "x") == 1
    assert count_failures(file, "a") == 3
    record_success(file, "a")
    assert (count_failures(file, "a"), count_failures(file, "b")) == (0, 1)
    assert record_failure(file, "a", "x") == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"schema_version": 2, "failing": {}}',
        b'{"failing": {"a": {"in_a_row": -3, "reason": ""}}}',
        b'{"failing": {"a": {"in_a_row": "3", "reason": ""}}}',
        b" " * (1 << 19),
    ],
    ids=["empty", "list", "no-utf8", "deep", "schema", "negative", "text", "huge"],
)
def test_what_is_malformed_is_forgotten_and_said(
    file: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(content)
    assert record_failure(file, "a", "x") == 1
    assert "load_failures_forgotten" in capsys.readouterr().out
    assert record_failure(file, "a", "x") == 2


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_what_is_no_file_does_not_hold_the_server(file: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/etc/passwd")
    before = Path("/etc/passwd").read_bytes()
    assert record_failure(file, "a", "x") == 1
    assert Path("/etc/passwd").read_bytes() == before


def test_a_folder_that_is_not_there_counts_one_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "nowhere" / "f.json"
    assert record_failure(file, "a", "x") == 1
    assert "load_failures_not_counted" in capsys.readouterr().out
    record_success(file, "a")
    assert count_failures(file, "a") == 0


def test_a_full_disk_counts_one_and_leaves_what_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_failure(file, "a", "x")
    before = file.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert record_failure(file, "a", "x") == 1
    assert file.read_bytes() == before


def test_a_lock_that_is_never_given_back_is_not_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_LOCK_SECONDS", 0.02)
    with file.with_name(f"{file.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert record_failure(file, "a", "x") == 1
    assert count_failures(file, "a") == 0


def test_processes_that_fail_at_once_are_all_counted(file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: record_failure(file, "a", "x"), range(16)))
    assert sorted(counts) == list(range(1, 17))


def test_the_file_stays_small_and_keeps_the_latest(file: Path) -> None:
    for number in range(70):
        record_failure(file, f"model-{number}", "r" * 2000)
    failing = json.loads(file.read_bytes())["failing"]
    assert len(failing) == 64
    assert "model-69" in failing
    assert "model-0" not in failing
    assert len(failing["model-69"]["reason"]) == 500
    assert record_failure(file, "k" * 9000, "x") == 1
    assert record_failure(file, "k" * 9000, "x") == 2


def test_a_reason_cannot_forge_lines(file: Path) -> None:
    record_failure(file, "a", "bad\n\x1b[2J")
    assert json.loads(file.read_bytes())["failing"]["a"]["reason"] == "bad\\n\\x1b[2J"


def test_it_is_kept_beside_the_model() -> None:
    assert default_failures_file(Path("/models/tiny")) == Path("/models/.tiny.failures.json")
