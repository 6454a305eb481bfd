"""docs/release/tutorial.md, run as a reader would: its files are written, its commands run in one shell, in order.

What is printed below a command is looked for in the command's output, line by line in that order; `…` is anything. A
block that is marked `exits 1` ends with a command that does; no other command of the page may fail.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from pratique.core import procfs
from pratique.fleet.targets._marked import MarkedPrograms
from pratique.testkit.ports import reserved_port

PAGE = Path(__file__).resolve().parents[3] / "docs" / "release" / "tutorial.md"
BLOCK = re.compile(r"(?:^`([\w./]+)`:\n\n)?^```(\w+)(?: exits (\d))?\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
PORTS = ("5000", "5080", "8080", "8081", "8082", "9901")
TOOLS = ("buildah", "podman", "runc", "skopeo", "mmdebstrap", "docker-registry", "curl", "git")
MISSING = [name for name in TOOLS if shutil.which(name) is None] + ([] if os.geteuid() == 0 else ["root"])
BLOCK_SECONDS = 600

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}"),
]


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences."""

    file: str
    language: str
    exits: int
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(name, language, int(code or 0), text) for name, language, code, text in BLOCK.findall(page)]


class Shell:
    """One bash for the whole page: what a block sets, the next one has."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )

    def run(self, text: str) -> tuple[list[int], list[str]]:
        """Return the exit codes of the commands that failed, and what was printed."""
        write, read = self._pipes()
        timer = threading.Timer(BLOCK_SECONDS, self._process.kill)
        timer.start()
        write.write(f'failed=; trap \'failed+=" $?"\' ERR\n{text}\necho "@@@$failed"\n')
        write.flush()
        lines: list[str] = []
        for line in read:
            if line.startswith("@@@"):
                timer.cancel()
                return [int(code) for code in line[3:].split()], lines
            lines.append(line.rstrip())
        pytest.fail(f"the shell ended, or a block took more than {BLOCK_SECONDS} s:\n{text}\n" + "\n".join(lines))

    def close(self) -> None:
        """End the shell, and whatever it started: all that is in its session."""
        write, read = self._pipes()
        session = self._process.pid
        self._process.kill()
        self._process.wait(20)
        procfs.kill_until_gone(
            lambda entries: {entry.pid for entry in entries if entry.session == session}, within_seconds=20
        )
        write.close()
        read.close()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


@pytest.fixture
def page() -> Iterator[str]:
    """The page, with ports that are free."""
    text = PAGE.read_text(encoding="utf-8")
    with contextlib.ExitStack() as kept:
        for port in PORTS:
            text = re.sub(rf"\b{port}\b", str(kept.enter_context(reserved_port())), text)
        yield text


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    programs = tmp_path / "bin"
    programs.mkdir()
    command = programs / "pratique"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m pratique.cli.main "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PRATIQUE_", "PYTEST_", "AWS_"))}
    started = Shell(tmp_path, kept | {"PATH": f"{programs}:{kept['PATH']}"})
    yield started
    started.close()
    left = MarkedPrograms(str((tmp_path / "hello/work/production").resolve()))  # where the page broke off
    for role in left.running():
        left.stop(role, grace_seconds=5.0)
    subprocess.run(["podman", "rm", "--force", "--ignore", "hello-a", "hello-b"], check=True, capture_output=True)


def missing_lines(wanted: str, printed: list[str]) -> list[str]:
    """The lines that were not printed, or not in this order."""
    left = iter(printed)
    patterns = {line: re.compile(".*".join(map(re.escape, line.strip().split("…")))) for line in wanted.splitlines()}
    return [line for line, pattern in patterns.items() if not any(pattern.search(one) for one in left)]


def test_the_page_does_what_it_says(page: str, shell: Shell, tmp_path: Path) -> None:
    printed: list[str] = []
    for block in blocks(page):
        if block.file:
            (tmp_path / "hello" / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            failed, printed = shell.run(block.text)
            expected = [block.exits] if block.exits else []
            assert failed == expected, f"{block.text}\n" + "\n".join(printed)
        elif block.language == "text":
            absent = missing_lines(block.text, printed)
            assert not absent, f"not printed: {absent[0]}\n" + "\n".join(printed)


def test_the_page_has_the_steps_that_it_promises() -> None:
    found = blocks(PAGE.read_text(encoding="utf-8"))
    text = "".join(block.text for block in found if block.language == "sh")
    commands = {
        *("lock verify", "build base", "registry serve", "signing-key create", "policy check", "sign", "gate"),
        *("advisories import", "evidence collect", "evidence attach", "approve", "promote", "ledger verify"),
        *("inventory sync", "triage", "review", "rollback", "revoke", "audit"),
    }
    assert not [one for one in commands if f"pratique {one} " not in text.replace("\n", " ")]
    assert {block.language for block in found} >= {"sh", "text", "python", "dockerfile", "toml"}
