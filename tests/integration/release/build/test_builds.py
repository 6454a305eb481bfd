"""Real builds by buildah: what goes in is recorded, what comes out is the same twice, and the network is shut."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from pratique.release.build.errors import (
    BuildRequestError,
    DirtyTreeError,
    DockerfileRefusedError,
    NotReproducibleError,
    StepFailedError,
    TestStageError,
    UnlistedWheelError,
)
from pratique.release.build.layertar import LayerLimits, read_entries
from pratique.release.build.layout import LayoutImage, read_layout
from pratique.release.build.record import Material, load_record
from pratique.release.errors import ToolFailedError
from pratique.release.values import digest_of

pytestmark = pytest.mark.integration

SECRET = "the-one-that-nobody-sees"
WHEEL = b"wheel\n"


@pytest.fixture
def port() -> Iterator[int]:
    """Somebody who answers on this machine: whoever has its network reaches them."""

    def answer(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                listener.accept()[0].close()

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def files_in(image: LayoutImage) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for layer in image.layers[1:]:
        with image.open_layer(layer) as stream:
            for entry in read_entries(stream, LayerLimits()):
                found[entry.path] = entry.content.read(-1) if entry.content else b""
    return found


@pytest.mark.slow
def test_a_build_is_the_same_twice_and_says_what_went_in(
    checkout: Any, dockerfile: Callable[..., str], port: int, tmp_path: Path
) -> None:
    lock = f"a==1 --hash={digest_of(WHEEL)}\n"
    text = dockerfile(
        deps=f"RUN mkdir /wheels && echo wheel > /wheels/a.whl && exec 3<>/dev/tcp/127.0.0.1/{port}",
        test=f"RUN ! (exec 3<>/dev/tcp/127.0.0.1/{port})\n"
        "RUN --mount=type=bind,from=deps,source=/wheels,target=/wheels cat /wheels/a.whl",
        runtime="RUN --mount=type=bind,from=deps,source=/wheels,target=/wheels cat /wheels/a.whl > /installed\n"
        "RUN --mount=type=secret,id=token,target=/token test $(cat /token) != none\n"
        'COPY --from=page / /page/\nCOPY app /app\nUSER 1000\nHEALTHCHECK CMD true\nENTRYPOINT ["/bin/cat"]',
    )
    checkout.commit(Dockerfile=text, lock=lock, app="hello")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<html>", encoding="utf-8")
    (tmp_path / "token").write_text(SECRET, encoding="utf-8")
    result = checkout.build(
        verify=True,
        locks=("lock",),
        artifacts={"page": tmp_path / "page"},
        secrets={"token": tmp_path / "token"},
        repository="https://me:secret@example.org/a.git",
    )
    image = read_layout(checkout.output / "image")
    assert image == result.image
    assert image.layers[0] == checkout.base.layers[0], "the base's layer is taken over as it lies"
    files = files_in(image)
    assert (files["installed"], files["app"], files["page/index.html"]) == (WHEEL, b"hello", b"<html>")
    config = json.loads(image.config)
    assert config["config"]["Healthcheck"] == {"Test": ["CMD-SHELL", "true"]}
    assert config["config"]["User"] == "1000"
    assert not {"container", "container_config", "parent"} & config.keys()
    labels = config["config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == result.tag
    assert labels["org.opencontainers.image.source"] == "https://example.org/a.git"
    record = load_record(checkout.output / "build-record.json")
    assert (record.image, record.tag, record.is_reproduced) == (image.digest, result.tag, True)
    assert record.downloads == (Material(name="a.whl", digest=digest_of(WHEEL)),)
    assert [one.digest for one in record.bases] == [checkout.base.digest]
    assert [one.digest for one in record.locks] == [digest_of(lock.encode())]
    assert (record.secret_names, [one.name for one in record.artifacts]) == (("token",), ["page"])
    everything = b"".join(path.read_bytes() for path in checkout.output.rglob("*") if path.is_file())
    assert SECRET.encode() not in everything + b"".join(files.values())


def test_no_instruction_may_walk_back_into_the_network(checkout: Any, dockerfile: Callable[..., str]) -> None:
    """Entering another namespace takes CAP_SYS_ADMIN (bit 21, capabilities(7)), which instructions do not have."""
    checkout.commit(
        Dockerfile=dockerfile(
            test="RUN while read name value; do case $name in CapEff:|CapBnd:)"
            " test $((0x$value >> 21 & 1)) = 0 || exit 1;; esac; done < /proc/self/status"
        )
    )
    checkout.build()


def test_a_later_step_that_needs_the_network_fails_the_build(
    checkout: Any, dockerfile: Callable[..., str], port: int
) -> None:
    checkout.commit(Dockerfile=dockerfile(runtime=f"RUN exec 3<>/dev/tcp/127.0.0.1/{port}"))
    with pytest.raises(StepFailedError, match="the stage 'runtime' was not built"):
        checkout.build()


def test_tests_that_fail_leave_no_image_and_nothing_mounted(
    checkout: Any, dockerfile: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "work"))
    checkout.commit(Dockerfile=dockerfile(test="RUN echo 3 failed >&2; exit 1"))
    with pytest.raises(TestStageError, match=r"(?s)the stage 'test' was not built.*3 failed"):
        checkout.build()
    assert not (checkout.output / "image").exists()
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text(encoding="utf-8")
    assert list((tmp_path / "work").iterdir()) == []
    assert b"3 failed" in (checkout.output / "build.log").read_bytes()


def test_two_builds_that_differ_are_refused_with_layer_file_and_what(
    checkout: Any, dockerfile: Callable[..., str]
) -> None:
    checkout.commit(
        Dockerfile=dockerfile(runtime="RUN mkdir /a && date +%N > /a/now && touch /a/$(date +%N)\nRUN touch /same")
    )
    with pytest.raises(NotReproducibleError) as raised:
        checkout.build(verify=True)
    message = raised.value.message
    assert "layer 2: a/now: content: 10 bytes, sha256:" in message
    assert message.count(": only in one: ") == 2
    assert "layer 3" not in message


def test_a_wheel_that_no_lock_names_is_refused(checkout: Any, dockerfile: Callable[..., str]) -> None:
    deps = "RUN mkdir /wheels && echo other > /wheels/a.whl"
    checkout.commit(Dockerfile=dockerfile(deps=deps), lock=f"a==1 --hash={digest_of(WHEEL)}\n")
    with pytest.raises(UnlistedWheelError, match=r"a\.whl"):
        checkout.build(locks=("lock",))


def test_what_is_not_committed_is_refused_or_marked(checkout: Any, dockerfile: Callable[..., str]) -> None:
    checkout.commit(Dockerfile=dockerfile(runtime="COPY . /src/"), **{".gitignore": "ignored\n"})
    (checkout.folder / "new").write_text("n", encoding="utf-8")
    (checkout.folder / "ignored").write_text("i", encoding="utf-8")
    with pytest.raises(DirtyTreeError, match=r"\?\? new"):
        checkout.build()
    result = checkout.build(allow_dirty=True)
    assert result.tag.endswith("-dirty")
    assert result.record.source.is_dirty
    assert {"src/new", "src/Dockerfile"} <= files_in(result.image).keys()
    assert "src/ignored" not in files_in(result.image)


def test_refusals_come_before_anything_is_built(checkout: Any, dockerfile: Callable[..., str]) -> None:
    with pytest.raises(BuildRequestError, match="no git checkout with a commit"):
        checkout.build()
    checkout.commit(Dockerfile=dockerfile().replace("FROM $BASE AS runtime", "FROM debian:12 AS runtime"))
    with pytest.raises(DockerfileRefusedError, match="line 6: the base 'debian:12'"):
        checkout.build()
    with pytest.raises(BuildRequestError, match=r"has no file '\.\./Dockerfile'"):
        checkout.build(dockerfile="../Dockerfile")
    checkout.commit(Dockerfile=dockerfile())
    with pytest.raises(BuildRequestError, match="cannot be used"):
        checkout.build(base_layouts=(checkout.folder,))
    assert checkout.said == ["taking 1 base images by digest …"]


def test_another_user_than_root_is_told_why_not(
    checkout: Any, dockerfile: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout.commit(Dockerfile=dockerfile())
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ToolFailedError, match="needs root, and this process runs as user 1000"):
        checkout.build()


def test_a_stage_that_takes_too_long_is_ended(checkout: Any, dockerfile: Callable[..., str]) -> None:
    from pratique.core.clock import SystemClock
    from pratique.core.ids import SequentialIds
    from pratique.release.build.buildah import BuildahBuilder
    from pratique.release.build.pipeline import BuildRequest, Workplace, build_image
    from pratique.release.build.settings import BuildSettings

    checkout.commit(Dockerfile=dockerfile(deps="RUN sleep 60"))
    settings = BuildSettings(stage_timeout_seconds=2.0)
    at = Workplace(settings, BuildahBuilder, SystemClock(), SequentialIds(), checkout.said.append)
    request = BuildRequest(
        checkout.folder,
        "Dockerfile",
        checkout.output,
        arguments={"BASE": checkout.reference},
        base_layouts=(checkout.base.folder,),
    )
    with pytest.raises(StepFailedError, match="did not end within 2 s"):
        build_image(request, at)
