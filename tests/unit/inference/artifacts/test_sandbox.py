"""The sandbox's two sides without a process: what is asked of the kernel, and what is made of what the child says."""

from __future__ import annotations

import ctypes
import io
import os
import resource
import select
import signal
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from pratique.inference.artifacts import _protocol, _sandboxed, _unpickle, sandbox
from pratique.inference.artifacts._confine import Bounds, confine
from pratique.inference.artifacts._protocol import NOT_SANDBOXED, Said, Task
from pratique.inference.artifacts.sandbox import Conversion, SandboxReport, convert
from pratique.inference.errors import ArtifactError, UnsafeWeightsError

pytestmark = pytest.mark.unit

BOUNDS = Bounds(readable=("/usr", "/nowhere"), writable=("/tmp",), memory_bytes=1, file_bytes=2, cpu_seconds=3)  # noqa: S108 - only asked for
ALL = ("network", "processes", "limits", "process count", "privileges", "files")


class Kernel:
    """Answers the system calls; `refuses` are the names of those that fail."""

    def __init__(self, *refuses: str, abi: int = 7) -> None:
        self.refuses = refuses
        self.abi = abi
        self.calls: list[tuple[str, Any]] = []

    def answer(self, name: str, argument: object, value: int = 0) -> int:
        self.calls.append((name, argument))
        ctypes.set_errno(1)
        return -1 if name in self.refuses else value

    def prctl(self, option: int, *values: int) -> int:
        return self.answer(f"prctl-{option}", values)

    def unshare(self, flags: int) -> int:
        return self.answer("unshare-user" if flags & 0x10000000 else "unshare", flags)

    def capset(self, header: bytes, data: bytes) -> int:
        return self.answer("capset", data)

    def syscall(self, number: int, first: Any, *others: Any) -> int:
        if number == 444 and first is None:
            return self.answer("abi", None, self.abi)
        names = {444: "ruleset", 445: "rule", 446: "restrict"}
        value = os.open("/usr", os.O_RDONLY) if number == 444 and "ruleset" not in self.refuses else 0
        return self.answer(names[number], first if number == 444 else others, value)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Kernel]:
    def install(*refuses: str, abi: int = 7, interfaces: tuple[str, ...] = ("lo",)) -> Kernel:
        made = Kernel(*refuses, abi=abi)
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: made)
        monkeypatch.setattr(os, "fork", lambda: 0)
        # Nobody holds the pipe's other end here, as the process outside does.
        monkeypatch.setattr(select, "select", lambda *_: ([], [], []))
        monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(interfaces)))
        monkeypatch.setattr(resource, "setrlimit", lambda kind, value: made.calls.append((f"limit-{kind}", value)))
        return made

    return install


def test_everything_is_asked_for_and_reported(kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch) -> None:
    made = kernel()
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert confine(BOUNDS, os.getppid()) == dict.fromkeys(ALL, "")
    asked = dict(made.calls)
    assert asked["prctl-38"][0] == 1
    assert asked["capset"] == bytes(24)
    assert asked[f"limit-{resource.RLIMIT_AS}"] == (1, 1)
    assert asked[f"limit-{resource.RLIMIT_CORE}"] == (0, 0)
    handled, net, scopes = struct.unpack("=QQQ", asked["ruleset"])
    assert (handled, net, scopes) == ((1 << 16) - 1, 3, 3)
    names = [name for name, _ in made.calls]
    assert names.index("prctl-38") < names.index("restrict")  # or an ordinary process may not restrict itself
    rules = [struct.unpack("=Qi", values[1])[0] for name, values in made.calls if name == "rule"]
    assert len(rules) == 2
    assert not any(right & 1 for right in rules)  # nothing may be executed
    assert rules[0] & 0b10 == 0


def test_what_root_is_exempt_from_is_said(kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch) -> None:
    kernel()
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert "root" in confine(BOUNDS, os.getppid())["process count"]


@pytest.mark.parametrize(
    ("refuses", "missing"),
    [
        (("unshare-user",), {}),
        (("unshare-user", "unshare"), {"network", "processes"}),
        (("capset",), {"privileges"}),
        (("prctl-38",), {"privileges"}),
        (("abi",), {"files"}),
        (("ruleset",), {"files"}),
        (("restrict",), {"files"}),
    ],
)
def test_what_the_kernel_refuses_is_said_with_the_reason(
    kernel: Callable[..., Kernel], refuses: tuple[str, ...], missing: set[str]
) -> None:
    kernel(*refuses)
    found = confine(BOUNDS, os.getppid())
    assert {measure for measure, reason in found.items() if reason} - {"process count"} == set(missing)
    assert all("Operation not permitted" in found[measure] for measure in missing)


def test_an_interface_that_is_left_is_a_network(kernel: Callable[..., Kernel]) -> None:
    kernel(interfaces=("lo", "eth0"))
    assert confine(BOUNDS, os.getppid())["network"] == "interfaces are left: eth0"


@pytest.mark.parametrize(
    ("abi", "words", "rights"), [(1, 1, 13), (2, 1, 14), (3, 1, 15), (4, 2, 15), (5, 2, 16), (6, 3, 16), (99, 3, 16)]
)
def test_an_older_landlock_is_asked_for_what_it_has(
    kernel: Callable[..., Kernel], abi: int, words: int, rights: int
) -> None:
    made = kernel(abi=abi)
    confine(BOUNDS, os.getppid())
    asked = dict(made.calls)["ruleset"]
    assert len(asked) == 8 * words
    assert struct.unpack("=Q", asked[:8])[0] == (1 << rights) - 1


def test_a_rule_that_is_refused_ends_it(kernel: Callable[..., Kernel]) -> None:
    kernel("rule")
    with pytest.raises(OSError, match="not permitted"):
        confine(BOUNDS, os.getppid())


def test_without_its_parent_it_ends(kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch) -> None:
    kernel()

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit):
        confine(BOUNDS, os.getppid() + 1)


def test_where_the_process_outside_is_gone_the_one_inside_ends(
    kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel()
    monkeypatch.setattr(select, "select", lambda *_: ([3], [], []))

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit):
        confine(BOUNDS, os.getppid())


@pytest.mark.parametrize(("status", "code"), [(0, 0), (77 << 8, 77), (9, 137)])
def test_the_process_outside_only_waits_and_ends_as_the_one_inside(
    kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch, status: int, code: int
) -> None:
    kernel()
    monkeypatch.setattr(os, "fork", lambda: 4711)
    monkeypatch.setattr(os, "waitpid", lambda pid, flags: (pid, status))

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as caught:
        confine(BOUNDS, os.getppid())
    assert caught.value.code == code


class Process:
    """A child that has said its lines and ended."""

    pid = 4711

    def __init__(self, lines: bytes, code: int, errors: bytes) -> None:
        self.stdout = io.BytesIO(lines)
        self.code = code
        self.errors = errors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self) -> int:
        return self.code


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, list[Any], dict[str, Any]]]:
    """Run a conversion whose child says these lines; return the licence, what was told, and how it was started."""

    def run(*said: Said | bytes, code: int = 0, errors: bytes = b"") -> tuple[str, list[Any], dict[str, Any]]:
        started: dict[str, Any] = {}
        lines = b"\n".join(line if isinstance(line, bytes) else msgspec.json.encode(line) for line in said) + b"\n"

        def start(command: list[str], **options: Any) -> Process:
            started.update(options, command=command)
            options["stderr"].write(errors)
            return Process(lines, code, errors)

        monkeypatch.setattr("subprocess.Popen", start)
        monkeypatch.setattr(os, "waitid", lambda *_: None)
        monkeypatch.setattr(os, "killpg", lambda pid, number: started.update(killed=(pid, number)))
        weights = tmp_path / "pytorch_model.bin"
        weights.write_bytes(b"x" * 10)
        conversion = Conversion(
            kind="model", sources=(weights,), out=tmp_path, scratch=tmp_path, memory_factor=4, must_be_sandboxed=True
        )
        told: list[Any] = []
        licence = convert(conversion, lambda phase, share: told.append((phase, share)), told.append)
        return licence, told, started

    return run


SANDBOX = Said(sandbox={"network": "", "files": "no Landlock"})


def test_a_conversion_tells_the_sandbox_its_progress_and_the_licence(run: Callable[..., Any]) -> None:
    licence, told, started = run(
        SANDBOX,
        b"a library's own words",
        b"[" * 100_000,
        Said(phase="reading\x1b[2J", progress=7.0),
        Said(sandbox={"network": "", "files": ""}),
        Said(licence="mit"),
    )
    report = SandboxReport(enforced=("network",), missing={"files": "no Landlock"})
    assert (licence, told) == ("mit", [report, ("reading\\x1b[2J", 1.0)])
    assert str(report) == "enforced: network; not enforced: files (no Landlock)"
    assert str(SandboxReport()) == "enforced: nothing; not enforced: nothing"
    assert started["killed"] == (4711, signal.SIGKILL)
    assert set(started["env"]) == {"HOME", "TMPDIR", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "PATH"}
    task = msgspec.json.decode(started["command"][-1], type=Task)
    assert (task.parent, task.must_have) == (os.getpid(), ("network", "limits", "privileges"))
    assert task.bounds.file_bytes == 40 + (1 << 28)


def test_pickles_that_cannot_be_shut_in_are_refused(run: Callable[..., Any]) -> None:
    with pytest.raises(ArtifactError, match=r"cannot be shut in here: .*network \(unshare: x\)") as caught:
        run(Said(sandbox={"network": "unshare: x"}), code=NOT_SANDBOXED)
    assert caught.value.exit_code == 3
    assert "--unsafe-without-sandbox" in str(caught.value.hint)


def test_what_would_run_code_is_unsafe(run: Callable[..., Any]) -> None:
    with pytest.raises(UnsafeWeightsError, match=r"pytorch_model\.bin asks for posix\.system\\x1b") as caught:
        run(SANDBOX, Said(unsafe="pytorch_model.bin asks for posix.system\x1b"), code=1)
    assert caught.value.code == "unsafe_weights"


@pytest.mark.parametrize(
    ("said", "errors", "reason"),
    [
        (Said(failed="no state dict"), b"", "exit code 1: no state dict"),
        (SANDBOX, b"x\nMemoryError", "exit code 1: MemoryError"),
        (SANDBOX, b"", "it said nothing"),
        (b"x" * 200_000, b"y" * 200_000, "exit code 1"),
    ],
)
def test_a_failed_conversion_shows_its_last_words(
    run: Callable[..., Any], said: Any, errors: bytes, reason: str
) -> None:
    with pytest.raises(ArtifactError, match=reason) as caught:
        run(said, code=1, errors=errors)
    assert any("The sandbox: " in note for note in caught.value.__notes__)
    assert caught.value.hint


def test_a_process_that_is_gone_need_not_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int, number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "killpg", gone)
    sandbox._kill(Process(b"", 0, b""))  # type: ignore[arg-type]  # a fake


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[Said]]]:
    """Run the child's entry with this converter and this sandbox; return its exit code and lines."""

    def run(converter: Callable[[Task], None], kind: str = "model", **missing: str) -> tuple[int, list[Said]]:
        said: list[Said] = []
        monkeypatch.setattr(_sandboxed, "confine", lambda bounds, parent: {**dict.fromkeys(ALL, ""), **missing})
        monkeypatch.setattr(_sandboxed, "say", said.append)
        module = "_convert.convert_gguf" if kind == "gguf" else "_unpickle.convert_pickles"
        monkeypatch.setattr(f"pratique.inference.artifacts.{module}", converter)
        task = Task(kind=kind, sources=("/x",), out="/y", bounds=BOUNDS, parent=1, must_have=("network",))
        return _sandboxed.main(msgspec.json.encode(task).decode()), said

    return run


def test_nothing_is_read_where_the_sandbox_lacks_what_it_must_have(child: Callable[..., Any]) -> None:
    code, said = child(lambda task: pytest.fail("it was read"), network="unshare: no")
    assert code == NOT_SANDBOXED
    assert said == [Said(sandbox={**dict.fromkeys(ALL, ""), "network": "unshare: no"})]


@pytest.mark.parametrize("kind", ["gguf", "model", "adapter"])
def test_the_converter_of_the_kind_runs(child: Callable[..., Any], kind: str) -> None:
    kinds: list[str] = []
    assert child(lambda task: kinds.append(task.kind), kind, files="no Landlock")[0] == 0
    assert kinds == [kind]


@pytest.mark.parametrize(
    ("error", "said"),
    [(UnsafeWeightsError("asks"), Said(unsafe="asks")), (ArtifactError("broken", hint="x"), Said(failed="broken"))],
)
def test_a_refusal_is_said(child: Callable[..., Any], error: Exception, said: Said) -> None:
    def refuse(task: Task) -> None:
        raise error

    code, lines = child(refuse)
    assert (code, lines[-1]) == (1, said)


def test_a_line_is_json(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    _protocol.say(Said(phase="日本", progress=0.5))
    assert msgspec.json.decode(capfdbinary.readouterr().out, type=Said) == Said(phase="日本", progress=0.5)


def archive(path: Path, *, compression: int = zipfile.ZIP_STORED, records: int = 2) -> Path:
    with zipfile.ZipFile(path, "w", compression) as made:
        for number in range(records):
            made.writestr(f"a/{number}", b"0" * 100_000)
    return path


def test_a_stored_archive_and_a_bare_pickle_are_told_apart(tmp_path: Path) -> None:
    assert _unpickle._check_archive(archive(tmp_path / "a"))
    (tmp_path / "b").write_bytes(b"\x80\x02.")
    assert not _unpickle._check_archive(tmp_path / "b")


def test_a_compressed_archive_is_a_bomb(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is compressed \(a/0\)"):
        _unpickle._check_archive(archive(tmp_path / "a", compression=zipfile.ZIP_DEFLATED))


def test_an_archive_of_overlapping_records_is_a_bomb(tmp_path: Path) -> None:
    path = archive(tmp_path / "a", records=1)
    raw = path.read_bytes()
    end = raw.rindex(b"PK\x05\x06")
    begin = raw.index(b"PK\x01\x02")
    entry = raw[begin:end]
    tail = bytearray(raw[end:])
    struct.pack_into("<HHI", tail, 8, 50, 50, 50 * len(entry))
    path.write_bytes(raw[:begin] + entry * 50 + tail)
    with pytest.raises(ArtifactError, match="unpacks to more than it holds"):
        _unpickle._check_archive(path)


def test_too_many_records_and_a_broken_archive_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "a", records=3)
    monkeypatch.setattr(_unpickle, "_MAX_RECORDS", 2)
    with pytest.raises(ArtifactError, match="holds 3 records"):
        _unpickle._check_archive(path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02")] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ArtifactError, match="broken archive"):
        _unpickle._check_archive(path)
