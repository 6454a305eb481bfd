"""The local target over containers: podman and runc, images by digest."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.integration.fleet.targets.conftest import Stage, ask

from pratique.fleet.targets.interface import Deployment, TargetError
from pratique.fleet.targets.local import LocalTarget

MISSING = [name for name in ("buildah", "podman", "runc", "gcc") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
NAME = "localhost/pratique-local-target-test"
SERVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <unistd.h>
#include <netinet/in.h>
#include <sys/socket.h>
int main(int count, char **words) {
  int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in place = {0};
  char asked[4096], told[256];
  signal(SIGTERM, _exit);
  place.sin_family = AF_INET;
  place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  place.sin_port = htons(atoi(words[1]));
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(server, (void *)&place, sizeof place) || listen(server, 128)) return 1;
  for (;;) {
    int client = accept(server, 0, 0);
    if (client >= 0 && read(client, asked, sizeof asked) > 0) {
      int size = snprintf(told, sizeof told,
        "HTTP/1.1 200 OK\r\ncontent-length: %zu\r\nconnection: close\r\n\r\n%s", strlen(NAME), NAME);
      if (write(client, told, size) < 0) return 1;
    }
    close(client);
  }
}
"""


def run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("images")
    (folder / "server.c").write_text(SERVER, encoding="utf-8")
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY server /server\nENTRYPOINT ["/server"]\n', encoding="utf-8")
    made = {}
    for name in ("one", "two"):
        source, program = str(folder / "server.c"), str(folder / "server")
        run("gcc", "-static", "-O1", f'-DNAME="{name}"', "-o", program, source)
        run("buildah", "bud", "--isolation", "chroot", "--quiet", "--tag", f"{NAME}:{name}", str(folder))
        made[name] = run("podman", "image", "inspect", "--format", "{{.Digest}}", f"{NAME}:{name}")
    yield made
    run("podman", "rmi", *(f"{NAME}:{name}" for name in made))


@pytest.fixture
def target(stage: Stage, tmp_path: Path) -> Iterator[LocalTarget]:
    options = ("--pull", "never", "--network", "host", "--read-only", "--cap-drop=ALL")
    limits = ("--security-opt", "no-new-privileges", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
    named = ("--rm", "--replace", "--name", f"{tmp_path.name}-{{slot}}")
    command = ("podman", "--runtime", "runc", "run", *named, *options, *limits, f"{NAME}@{{digest}}", "{port}")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    made = LocalTarget(replace(stage.settings, command=command, health_path="/", environment=environment))
    yield made
    made.close()


def test_two_images_share_the_traffic_and_only_their_digests_name_them(
    target: LocalTarget, stage: Stage, digests: dict[str, str]
) -> None:
    one, two = digests["one"], digests["two"]
    target.promote(one)
    assert {ask(stage.settings.port) for _ in range(10)} == {"one"}
    target.start_canary(two, share=0.5)
    assert {ask(stage.settings.port) for _ in range(40)} == {"one", "two"}
    target.abort_canary()
    assert {ask(stage.settings.port) for _ in range(10)} == {"one"}
    target.promote(two)
    assert {ask(stage.settings.port) for _ in range(10)} == {"two"}
    assert target.deployment() == Deployment(two)


def test_an_image_that_is_not_there_gets_no_traffic(target: LocalTarget, stage: Stage, digests: dict[str, str]) -> None:
    target.promote(digests["one"])
    with pytest.raises(TargetError, match="its program has ended"):
        target.start_canary("sha256:" + "0" * 64, share=0.5)
    target.abort_canary()
    assert {ask(stage.settings.port) for _ in range(10)} == {"one"}
