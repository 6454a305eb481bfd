"""The real sandbox: hand-made evil pickles leave no trace, and whatever runs in it reaches nothing outside."""

from __future__ import annotations

import json
import os
import pickle
import select
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from pratique.inference.artifacts._confine import Bounds
from pratique.inference.artifacts.manifest import verify
from pratique.inference.artifacts.store import import_model
from pratique.inference.errors import UnsafeWeightsError

pytestmark = [pytest.mark.integration, pytest.mark.vllm, pytest.mark.timeout(240)]


def quiet(phase: str, share: float) -> None:
    del phase, share


class Evil:
    """Pickled, it calls `function(*arguments)` when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        yield bound


def evils(trace: Path, port: int) -> dict[str, Evil]:
    connect = f"__import__('socket').create_connection(('127.0.0.1', {port}), 2)"
    return {
        "os.system": Evil(os.system, f"touch {trace}"),
        "eval": Evil(eval, f"open({str(trace)!r}, 'w').write('x')"),
        "open": Evil(open, str(trace), "w"),
        "socket": Evil(eval, connect),
        "subprocess": Evil(subprocess.Popen, ["touch", str(trace)]),
        "make-folder": Evil(os.mkdir, str(trace)),
    }


def model_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def save_like_torch(path: Path, payload: object) -> None:
    """Write the archive that `torch.save` writes, with any pickle in it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(payload, protocol=2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        *(("os.system", "archive"), ("eval", "archive"), ("socket", "archive"), ("make-folder", "archive")),
        *(("os.system", "bare"), ("open", "bare"), ("subprocess", "bare")),
    ],
)
def test_an_evil_pickle_leaves_no_trace(tmp_path: Path, listener: socket.socket, kind: str, layout: str) -> None:
    trace = tmp_path / "trace"
    payload = {"weight": evils(trace, listener.getsockname()[1])[kind]}
    folder = model_folder(tmp_path / "evil")
    if layout == "archive":
        save_like_torch(folder / "pytorch_model.bin", payload)
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(payload, protocol=2))
    with pytest.raises(UnsafeWeightsError, match=r"pytorch_model\.bin cannot be read without running") as caught:
        import_model(str(folder), tmp_path / "root", quiet)
    assert caught.value.code == "unsafe_weights"
    assert not trace.exists()
    assert not select.select([listener], [], [], 0.1)[0]
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".lock"]


PROBE = r"""
import json, os, pickle, resource, signal, socket, sys, time
from pathlib import Path
import msgspec
from pratique.inference.artifacts._confine import Bounds, confine
raw, parent, outside, inside, port, pickles = sys.argv[1:]
pickles = [bytes.fromhex(text) for text in json.loads(pickles)]
enforced = confine(msgspec.json.decode(raw, type=Bounds), int(parent))
def attempt(work):
    try:
        return ["done", str(work())[:200]]
    except BaseException as error:
        return [type(error).__name__, str(error)[:200]]
def forked(work):
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(9)
    return os.waitpid(child, 0)[1]
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"x", ("127.0.0.1", int(port)))
def late():
    if not os.fork():
        os.setsid()
        time.sleep(1.5)
        Path(inside, "late").write_text("x")
        os._exit(0)
found = {
    "enforced": enforced,
    "tcp": attempt(lambda: socket.create_connection(("127.0.0.1", int(port)), 2)),
    "udp": attempt(udp),
    "raw": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "write-outside": attempt(lambda: Path(outside, "trace").write_text("x")),
    "read-outside": attempt(lambda: Path(outside, "secret").read_text()),
    "list-outside": attempt(lambda: os.listdir(outside)),
    "remove-outside": attempt(lambda: os.unlink(Path(outside, "secret"))),
    "rename-outside": attempt(lambda: os.rename(Path(inside, "readable"), Path(outside, "trace"))),
    "link-outside": attempt(lambda: os.symlink(Path(outside, "secret"), Path(inside, "link"))),
    "execute": attempt(lambda: forked(lambda: os.execv("/bin/true", ["true"]))),
    "kill-parent": attempt(lambda: os.kill(int(parent), 0)),
    "environment-of-parent": attempt(lambda: Path(f"/proc/{parent}/environ").read_bytes()),
    "become-root": attempt(lambda: os.setuid(0)),
    "mount": attempt(lambda: __import__("ctypes").CDLL(None, use_errno=True).mount(b"/", b"/mnt", None, 4096, None)),
    "memory": attempt(lambda: len(bytearray(8 << 30))),
    "raise-limit": attempt(lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))),
    "write-inside": attempt(lambda: Path(inside, "made").write_text("x")),
    "read-inside": attempt(lambda: Path(inside, "readable").read_text()),
    "core": attempt(lambda: resource.getrlimit(resource.RLIMIT_CORE)[0]),
    "pickles": [attempt(lambda: pickle.loads(data)) for data in pickles],
}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
found["large-file"] = attempt(lambda: Path(inside, "large").write_bytes(bytes(2 << 20)))
late()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Path]:
    """What a process in the sandbox could do, and the folders outside and inside."""
    outside, inside = tmp_path_factory.mktemp("outside"), tmp_path_factory.mktemp("inside")
    (outside / "secret").write_text("secret")
    (inside / "readable").write_text("readable")
    own = (sys.prefix, sys.base_prefix, *filter(None, sys.path), "/usr", "/lib", "/lib64", "/proc", "/etc/ld.so.cache")
    bounds = Bounds(
        readable=own, writable=(str(inside), "/dev/null"), memory_bytes=4 << 30, file_bytes=1 << 20, cpu_seconds=60
    )
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        port = bound.getsockname()[1]
        pickles = [pickle.dumps(evil, protocol=2).hex() for evil in evils(outside / "trace", port).values()]
        command = [sys.executable, "-I", "-c", PROBE, msgspec.json.encode(bounds).decode(), str(os.getpid())]
        command += [str(outside), str(inside), str(port), json.dumps(pickles)]
        ended = subprocess.run(command, capture_output=True, timeout=60, check=False, env={"PATH": "/bin:/usr/bin"})
        assert ended.returncode == 0, ended.stderr.decode()
        found = json.loads(ended.stdout)
        found["connected"] = bool(select.select([bound], [], [], 0.1)[0])
    return found, outside, inside


def enforced(found: dict[str, Any], measure: str) -> None:
    if reason := found["enforced"][measure]:
        pytest.skip(f"this kernel does not enforce it: {reason}")


@pytest.mark.parametrize("attack", ["tcp", "udp"])
def test_the_sandbox_has_no_network(probed: tuple[dict[str, Any], Path, Path], attack: str) -> None:
    found, _, _ = probed
    enforced(found, "network")
    # Landlock answers first, where it knows the protocol; else there is no way out.
    assert found[attack][0] in {"OSError", "PermissionError"}, found[attack]
    assert not found["connected"]


@pytest.mark.parametrize("attack", ["raw", "mount", "become-root"])
def test_the_sandbox_has_no_powers(probed: tuple[dict[str, Any], Path, Path], attack: str) -> None:
    found, _, _ = probed
    enforced(found, "privileges")
    assert found[attack] == ["done", "-1"] or found[attack][0] in {"PermissionError", "OSError"}, found[attack]


@pytest.mark.parametrize(
    "attack",
    ["write-outside", "read-outside", "list-outside", "remove-outside", "rename-outside", "link-outside", "execute"],
)
def test_the_sandbox_reaches_no_other_files(probed: tuple[dict[str, Any], Path, Path], attack: str) -> None:
    found, outside, _ = probed
    enforced(found, "files")
    if attack == "execute":
        assert found[attack] != ["done", "0"]
    else:
        assert found[attack][0] in {"PermissionError", "OSError"}, found[attack]
    assert [path.name for path in outside.iterdir()] == ["secret"]


@pytest.mark.parametrize("attack", ["kill-parent", "environment-of-parent"])
def test_the_sandbox_reaches_no_other_process(probed: tuple[dict[str, Any], Path, Path], attack: str) -> None:
    found, _, _ = probed
    enforced(found, "processes")
    assert found[attack][0] in {"PermissionError", "ProcessLookupError", "FileNotFoundError"}, found[attack]


def test_the_sandbox_is_limited(probed: tuple[dict[str, Any], Path, Path]) -> None:
    found, _, inside = probed
    assert found["memory"][0] == "MemoryError"
    assert found["raise-limit"][0] in {"ValueError", "PermissionError"}
    assert found["large-file"][0] == "OSError"
    assert (inside / "large").stat().st_size <= 1 << 20
    assert found["core"] == ["done", "0"]


def test_nothing_that_the_sandbox_started_outlives_it(probed: tuple[dict[str, Any], Path, Path]) -> None:
    found, _, inside = probed
    enforced(found, "processes")
    time.sleep(2)
    assert not (inside / "late").exists()


def test_its_own_files_are_left_to_the_sandbox(probed: tuple[dict[str, Any], Path, Path]) -> None:
    found, _, inside = probed
    assert found["write-inside"][0] == "done"
    assert found["read-inside"] == ["done", "readable"]
    assert (inside / "made").read_text() == "x"


def test_even_a_plain_unpickling_leaves_no_trace(probed: tuple[dict[str, Any], Path, Path]) -> None:
    found, outside, _ = probed
    enforced(found, "network")
    enforced(found, "files")
    assert len(found["pickles"]) == 6
    assert not (outside / "trace").exists()
    assert not found["connected"]


def run_cli(*arguments: object, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*wrapper, sys.executable, "-m", "pratique.cli.main", "model", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_where_the_network_cannot_be_taken_away_pickles_are_refused(tmp_path: Path) -> None:
    import torch

    forbid = "echo 0 > /proc/sys/user/max_net_namespaces"
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-Ur", "sh", "-c", forbid], check=False).returncode:
        pytest.skip("a system without network namespaces cannot be had here")
    wrapper = (unshare, "-Ur", "sh", "-c", f'{forbid}; exec "$@"', "sh")
    folder = model_folder(tmp_path / "model")
    torch.save({"weight": torch.zeros(4)}, folder / "pytorch_model.bin")
    refused = run_cli("import", folder, "--model-root", tmp_path / "root", wrapper=wrapper)
    assert refused.returncode == 3
    assert "cannot be shut in here" in refused.stderr
    assert "--unsafe-without-sandbox" in refused.stderr
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".lock"]
    flags = ("--model-root", tmp_path / "root", "--unsafe-without-sandbox")
    taken = run_cli("import", folder, *flags, wrapper=wrapper)
    assert taken.returncode == 0, taken.stderr
    assert "not enforced: network (unshare" in taken.stderr
    verify(tmp_path / "root" / "model")


@pytest.mark.slow
def test_a_killed_import_ends_its_sandbox_and_leaves_no_model(tmp_path: Path) -> None:
    import torch

    folder = model_folder(tmp_path / "model")
    torch.save({"weight": torch.zeros(4)}, folder / "pytorch_model.bin")
    root = tmp_path / "root"
    command = [sys.executable, "-m", "pratique.cli.main", "model", "import", str(folder), "--model-root", str(root)]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "importing torch" not in process.stdout.readline():
            assert process.poll() is None
        inside = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert inside
    _, alive = psutil.wait_procs(inside, timeout=5)
    assert not alive
    assert not (root / "model").exists()
    import_model(str(folder), root, quiet)
    assert sorted(path.name for path in root.iterdir()) == [".lock", "model"]
