"""A Dockerfile that moves, reaches out late, or keeps secrets is refused, with the line of each place."""

from __future__ import annotations

import pytest

from pratique.release.build.dockerfile import parse_dockerfile
from pratique.release.build.errors import DockerfileRefusedError
from pratique.release.build.rules import BuildRules, external_images, find_problems, is_by_digest, require_rules

pytestmark = pytest.mark.unit

DIGEST = "sha256:" + "ab" * 32
BASE = f"registry.example:5000/team/base@{DIGEST}"
RULES = BuildRules(target="runtime", test_stage="test", network_stages=("deps",), contexts=frozenset({"page"}))
GOOD = f"""\
ARG BASE
FROM {BASE} AS deps
RUN pip download
ADD --checksum=sha256:{"0" * 64} https://example.org/x /x
FROM $BASE AS test
RUN --mount=type=bind,from=deps,target=/w --mount=type=secret,id=t pip install
FROM scratch AS runtime
COPY --from=test /a /a
COPY --from=page . /page
COPY --from={BASE} /b /b
ENV LANG=C.UTF-8 MAX_TOKENS=5
"""
ARGUMENTS = {"BASE": f"localhost/other@{DIGEST}"}


def problems(text: str, **arguments: str) -> list[str]:
    return [str(one) for one in find_problems(parse_dockerfile(text), RULES, arguments or ARGUMENTS)]


def test_one_that_keeps_the_rules_has_no_problem() -> None:
    assert problems(GOOD) == []
    require_rules(parse_dockerfile(GOOD), RULES, ARGUMENTS)


def test_the_images_from_outside_are_named_once() -> None:
    assert external_images(parse_dockerfile(GOOD), RULES, ARGUMENTS) == (BASE, ARGUMENTS["BASE"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (f"FROM {BASE} AS deps", "FROM debian:12 AS deps", "line 2: the base 'debian:12' is not named by digest"),
        (f"FROM {BASE} AS deps", "FROM debian AS deps", "line 2: the base 'debian'"),
        (f"FROM {BASE} AS deps", "FROM runtime AS deps", "line 2: the base 'runtime'"),  # a stage that comes later
        (f"FROM {BASE} AS deps", f"FROM x@{DIGEST[:-1]} AS deps", "line 2"),
        (f"FROM {BASE} AS deps", f"FROM X@{DIGEST.upper()} AS deps", "line 2"),
        ("ARG BASE\n", "ARG BASE=debian:12\n", "line 1: the default of BASE is a base by tag"),
        ("COPY --from=test", "COPY --from=alpine:3", "line 8: 'alpine:3' is no earlier stage"),
        ("COPY --from=page", "COPY --from=other", "line 9: 'other' is no earlier stage"),
        ("from=deps,target", "from=runtime,target", "line 6: 'runtime' is no earlier stage"),
        ("from=deps,target", "from=2,target", "line 6: '2' is no earlier stage"),
        ("RUN pip download", "RUN --network=host pip download", "line 3: RUN --network"),
        ("RUN --mount=type=bind", "RUN --network=default --mount=type=bind", "line 6: RUN --network"),
        ("RUN pip download", "RUN --security=insecure x", "line 3: RUN --security=insecure"),
        ("ADD --checksum=sha256:" + "0" * 64, "ADD", "line 4: ADD of a URL without --checksum"),
        (
            "COPY --from=page . /page",
            "ADD --checksum=sha256:0 https://example.org/x /x",
            "line 9: ADD of a URL outside",
        ),
        ("COPY --from=page . /page", "ADD a git@example.org:x/y.git /x", "line 9: ADD of a URL outside"),
        ("ENV LANG", "ENV API_KEY=x LANG", "line 11: ENV API_KEY: a secret"),
        ("ENV LANG=C.UTF-8 MAX_TOKENS=5", "ENV DB_PASSWORD hunter2", "line 11: ENV DB_PASSWORD: a secret"),
        ("ENV LANG", "ARG GITHUB_TOKEN\nENV LANG", "line 11: ARG GITHUB_TOKEN: a secret"),
        ("ENV LANG", "MAINTAINER me\nENV LANG", "line 11: 'MAINTAINER' is no instruction"),
        ("ARG BASE\n", "# syntax=docker/dockerfile:1\nARG BASE\n", "line 1: the frontend"),
        ("AS test", "AS other", "there is no stage 'test' for the tests"),
        ("AS runtime", "AS other", "there is no stage 'runtime' for the image to ship"),
        ("RUN pip download", "COPY --from=test /a /a", "line 3: 'test' is no earlier stage"),
    ],
)
def test_a_broken_rule_is_told_with_its_line(old: str, new: str, said: str) -> None:
    assert old in GOOD
    assert any(said in problem for problem in problems(GOOD.replace(old, new, 1))), problems(GOOD.replace(old, new, 1))


def test_network_after_the_dependency_step_is_refused() -> None:
    text = f"FROM {BASE} AS test\nFROM test AS deps\nCOPY --from=test /a /a\nFROM scratch AS runtime\n"
    assert [line for line in problems(text) if "comes after it" in line] == [
        "line 2: the stage 'deps' has network, and builds on 'test', which comes after it",
        "line 3: the stage 'deps' has network, and builds on 'test', which comes after it",
    ]


def test_what_is_shipped_or_tested_has_no_network() -> None:
    rules = BuildRules(target="runtime", test_stage="test", network_stages=("runtime", "test"))
    text = f"FROM {BASE} AS test\nFROM {BASE} AS runtime\n"
    found = [str(one) for one in find_problems(parse_dockerfile(text), rules, {})]
    assert [one for one in found if "must be built without network" in one]


def test_a_base_that_no_argument_gives_is_refused() -> None:
    assert "line 5: the base '$BASE' is empty" in problems(GOOD, OTHER="x")[0]


def test_every_problem_is_in_the_error() -> None:
    with pytest.raises(DockerfileRefusedError, match=r"(?s)line 1: .*line 2: "):
        require_rules(parse_dockerfile("FROM a AS test\nFROM b AS runtime\n"), RULES, {})


@pytest.mark.parametrize(
    ("reference", "answer"),
    [(BASE, True), (f"base:1.2@{DIGEST}", True), ("base:1.2", False), (f"@{DIGEST}", False), (f"{BASE}0", False)],
)
def test_only_whole_digests_count(reference: str, answer: bool) -> None:
    assert is_by_digest(reference) is answer
