"""The last step before a program runs without network: loopback alone, or nothing runs."""

from __future__ import annotations

import socket

import pytest

from pratique.release.build import _offline

pytestmark = pytest.mark.unit


def test_another_interface_than_loopback_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "eth0")])
    monkeypatch.setattr("os.execvp", lambda _, command: started.append(command))
    with pytest.raises(SystemExit) as raised:
        _offline.main(["buildah"])
    assert (raised.value.code, started) == (125, [])
    assert "the network is not shut" in capsys.readouterr().err


def test_loopback_is_brought_up_before_the_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo")])
    monkeypatch.setattr("fcntl.ioctl", lambda _, code, words: done.append((code, words[:2], words[16:18])))
    monkeypatch.setattr("os.execvp", lambda program, command: done.append((program, command)))
    _offline.main(["buildah", "bud"])
    assert done == [(0x8914, b"lo", b"\x41\x00"), ("buildah", ["buildah", "bud"])]
