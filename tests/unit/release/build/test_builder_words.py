"""What builders are told, without running one: command lines, rewritten Dockerfiles, names."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from pratique.release.build import buildkit
from pratique.release.build.base import BaseRequest, base_words, installed_packages
from pratique.release.build.bases import tls_words
from pratique.release.build.buildah import build_words, with_built
from pratique.release.build.buildkit import shut_network
from pratique.release.build.dockerfile import parse_dockerfile
from pratique.release.build.errors import BuildRequestError
from pratique.release.build.interface import StageBuild
from pratique.release.build.push import require_repository
from pratique.release.build.source import Source, without_credentials

pytestmark = pytest.mark.unit

TEXT = """\
# escape=\\
ARG BASE

FROM $BASE AS deps
RUN fetch
FROM deps
RUN \\
  a
  # comment
run <<EOF
RUN inside
EOF
COPY --from=deps /a /b
FROM 1 AS runtime
CMD ["x"]
"""


def stage(folder: Path, **changes: object) -> StageBuild:
    plain = StageBuild(
        dockerfile=folder / "Dockerfile",
        context=folder,
        target="runtime",
        epoch=42,
        network_stages=("deps",),
        timeout_seconds=1.0,
        arguments={"B": "2", "A": "1"},
        contexts={"page": Path("/page")},
        secrets={"pip": Path("/pip.conf")},
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields of the test's own choice


def pairs(words: list[str]) -> set[tuple[str, str]]:
    return set(pairwise(words))


def test_buildah_gets_one_time_no_pull_and_no_cache(tmp_path: Path) -> None:
    words = list(build_words(stage(tmp_path), tmp_path / "D", "site", tmp_path / "id"))
    assert words[0] == "bud"
    assert words[-1] == str(tmp_path)
    assert {"--no-cache", "--pull=never", "--identity-label=false"} <= set(words)
    assert {
        ("--timestamp", "42"),
        ("--target", "site"),
        ("--file", str(tmp_path / "D")),
        ("--format", "docker"),
        ("--build-context", "page=/page"),
        ("--secret", "id=pip,src=/pip.conf"),
    } <= pairs(words)
    assert [word for word in words if word in {"A=1", "B=2"}] == ["A=1", "B=2"]
    assert "--ignorefile" not in words
    (tmp_path / "Dockerfile.dockerignore").touch()
    assert ("--ignorefile", str(tmp_path / "Dockerfile.dockerignore")) in pairs(
        list(build_words(stage(tmp_path), tmp_path / "D", "site", tmp_path / "id"))
    )


def test_built_stages_stand_as_their_images_and_keep_name_and_number() -> None:
    written = with_built(parse_dockerfile(TEXT), {0: "sha256:1", 1: "sha256:2"})
    parsed = parse_dockerfile(written)
    assert [(one.name, one.base, len(one.instructions)) for one in parsed.stages] == [
        ("deps", "sha256:1", 0),
        ("", "sha256:2", 0),
        ("runtime", "1", 1),
    ]
    assert written.startswith("# escape=\\\nARG BASE\n")


def test_nothing_built_leaves_the_dockerfile_as_it_is() -> None:
    parsed = parse_dockerfile(TEXT)
    assert (
        parse_dockerfile(with_built(parsed, {})).stages[1].instructions[0].text == parsed.stages[1].instructions[0].text
    )


def test_buildkit_shuts_the_network_of_every_other_stage() -> None:
    shut = parse_dockerfile(shut_network(parse_dockerfile(TEXT), ("deps",)))
    runs = [
        (one.values("network"), one.text.split()[0])
        for stage in shut.stages
        for one in stage.instructions
        if one.keyword == "RUN"
    ]
    assert runs == [((), "fetch"), (("none",), "a"), (("none",), "<<EOF")]
    assert shut.stages[1].instructions[2].raw == "COPY --from=deps /a /b\n"


def test_buildkit_gets_time_secrets_and_no_attestations_of_its_own(tmp_path: Path) -> None:
    words = list(buildkit.build_words(stage(tmp_path), tmp_path / "D", tmp_path / "out", is_first=True))
    assert words[:2] == ["buildx", "build"]
    assert {"--no-cache", "--provenance=false", "--sbom=false"} <= set(words)
    assert {("--build-arg", "SOURCE_DATE_EPOCH=42"), ("--secret", "id=pip,src=/pip.conf")} <= pairs(words)
    [output] = [value for name, value in pairs(words) if name == "--output"]
    assert output == f"type=oci,tar=false,dest={tmp_path / 'out'},rewrite-timestamp=true,compression=gzip"
    assert "--no-cache" not in buildkit.build_words(stage(tmp_path), tmp_path, tmp_path, is_first=False)


def test_a_base_is_made_of_packages_of_one_suite(tmp_path: Path) -> None:
    request = BaseRequest(tmp_path, ("python3", "libc6=2.36-9+deb12u13"), mirrors=("deb http://x y main",))
    words = list(base_words(request, tmp_path / "t"))
    assert "--include=usr-is-merged,python3,libc6=2.36-9+deb12u13" in words
    assert words[-3:] == ["bookworm", str(tmp_path / "t"), "deb http://x y main"]


@pytest.mark.parametrize(
    ("packages", "suite"),
    [(("--customize-hook=x",), "bookworm"), (("a,b",), "bookworm"), (("a=1;b",), "bookworm"), ((), "--x"), ((), "")],
)
def test_a_name_that_is_none_reaches_no_command_line(tmp_path: Path, packages: tuple[str, ...], suite: str) -> None:
    with pytest.raises(BuildRequestError, match="is no"):
        list(base_words(BaseRequest(tmp_path, packages, suite=suite), tmp_path))


def test_a_mirror_that_is_an_option_reaches_no_command_line(tmp_path: Path) -> None:
    with pytest.raises(BuildRequestError, match="is no mirror"):
        list(base_words(BaseRequest(tmp_path, (), mirrors=("--customize-hook=touch /tmp/x",)), tmp_path))


def test_installed_packages_are_read_and_others_left_out() -> None:
    status = (
        "Package: b\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2-3\nD: x\n Package: no\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: a\nStatus: install ok installed\nVersion: 1\n"
    )
    assert [(one.name, one.version, one.architecture) for one in installed_packages(status)] == [
        ("a", "1", ""),
        ("b", "1:2-3", "amd64"),
    ]


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ("localhost:5000/a", ("--tls=false",)),
        ("127.0.0.1/a", ("--tls=false",)),
        ("registry.example/localhost", ()),
        ("localhost.example:5000/a", ()),
    ],
)
def test_plain_http_is_for_this_machine_only(repository: str, words: tuple[str, ...]) -> None:
    assert tls_words("--tls", repository) == words


@pytest.mark.parametrize("repository", ["host", "host/a:tag", "host/a@sha256:1", "--help", "host//a", "Host/A", ""])
def test_what_is_no_repository_is_refused(repository: str) -> None:
    with pytest.raises(BuildRequestError, match="expected a repository"):
        require_repository(repository)


def test_a_repository_has_a_host_and_a_path() -> None:
    require_repository("registry.example:5000/team/chat_service.web")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pass@example.org/a.git?x=1#y", "https://example.org/a.git"),
        ("ssh://git@example.org:22/a.git", "ssh://example.org:22/a.git"),
        ("git@example.org:a.git", "git@example.org:a.git"),
        ("/srv/a.git", "/srv/a.git"),
        ("", ""),
    ],
)
def test_addresses_are_told_without_credentials(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def test_a_tree_with_changes_is_no_commit() -> None:
    clean = Source(Path(), "", "a" * 40, 0, "v1")
    assert clean.revision == "a" * 40
    assert replace(clean, changes=("?? x",)).revision == "a" * 40 + "-dirty"
