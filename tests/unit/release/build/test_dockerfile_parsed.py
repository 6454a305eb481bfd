"""A Dockerfile is read as builders read it: lines, continuations, here-documents, directives, stages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.release.build.dockerfile import expand, parse_dockerfile
from pratique.release.build.errors import DockerfileRefusedError

pytestmark = pytest.mark.unit

TEXT = """\
# syntax=docker/dockerfile@sha256:abc
# a comment that ends the directives
# escape=`
ARG BASE=one
ARG EMPTY

FROM ${BASE} AS Deps
RUN --mount=type=cache,target=/x --network=none apt-get update && \\
    # a comment inside
    apt-get install \\

    curl
COPY --from=0 --chown=1:1 a b
from deps
RUN <<EOF cat
FROM not a stage
EOF
RUN <<-"A" <<B
	A
B
CMD ["x"]
"""


def test_stages_instructions_and_their_lines() -> None:
    parsed = parse_dockerfile(TEXT)
    assert parsed.directives == {"syntax": "docker/dockerfile@sha256:abc"}
    assert parsed.arguments == ((4, "BASE", "one"), (5, "EMPTY", None))
    deps, second = parsed.stages
    assert (deps.name, deps.base, deps.line) == ("deps", "${BASE}", 7)
    run, copy = deps.instructions
    assert (run.line, run.keyword) == (8, "RUN")
    assert run.flags == (("mount", "type=cache,target=/x"), ("network", "none"))
    assert run.text.split() == ["apt-get", "update", "&&", "apt-get", "install", "curl"]
    assert (copy.line, copy.values("from"), copy.text) == (13, ("0",), "a b")
    assert (second.name, second.base) == ("", "deps")
    assert [one.line for one in second.instructions] == [15, 18, 21]


def test_the_lines_are_kept_as_they_stand() -> None:
    parsed = parse_dockerfile(TEXT)
    kept = parsed.head + "".join(s.raw + "".join(i.raw for i in s.instructions) for s in parsed.stages)
    assert [line for line in kept.splitlines() if line] == [line for line in TEXT.splitlines() if line]


def test_a_stage_is_found_by_name_and_number_and_the_last_of_a_name_counts() -> None:
    parsed = parse_dockerfile("FROM a AS x\nFROM b AS y\nFROM c AS x\n")
    assert (parsed.stage("X"), parsed.stage("1"), parsed.stage("7"), parsed.stage("z")) == (
        parsed.stages[2],
        parsed.stages[1],
        None,
        None,
    )


def test_needed_stages_come_in_order_and_others_are_left_out() -> None:
    parsed = parse_dockerfile(
        "FROM a AS deps\nFROM b AS idle\nFROM c AS site\nRUN --mount=type=bind,from=deps,target=/w x\n"
        "FROM site AS test\nFROM c AS runtime\nCOPY --from=2 /a /b\nCOPY --from=test /c /d\n"
    )
    assert [stage.name for stage in parsed.needed_for("test")] == ["deps", "site", "test"]
    assert [stage.name for stage in parsed.needed_for("runtime")] == ["deps", "site", "test", "runtime"]
    assert parsed.needed_for("none") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no FROM"),
        ("ARG A\n", "no FROM"),
        ("RUN x\nFROM a\n", "line 1: only ARG"),
        ("FROM\n", "line 1: expected FROM"),
        ("FROM a b c\n", "line 1: expected FROM"),
        ("FROM a AS -x\n", "no name for a stage"),
        ("FROM a\nRUN <<EOF\nnever\n", "line 2: the here-document 'EOF' does not end"),
        ("# escape=x\nFROM a\n", "escape"),
        ("FROM a\n" + "#" * 1024 * 1024, "characters"),
    ],
)
def test_what_is_no_dockerfile_is_refused(text: str, said: str) -> None:
    with pytest.raises(DockerfileRefusedError, match=said):
        parse_dockerfile(text)


def test_the_backtick_continues_a_line_where_it_is_asked_for() -> None:
    parsed = parse_dockerfile("# escape=`\nFROM a\nRUN one `\n  two\nRUN c:\\\n")
    assert [one.text.split() for one in parsed.stages[0].instructions] == [["one", "two"], ["c:\\"]]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A-${A}", "1-1"),
        ("${B:-x}${C:-x}${E:-x}", "xxx"),
        ("${E-x}${A:+y}${E:+y}${E+y}", "y" + "y"),
        ("${U-x}$U", "x"),
        ("${A:?no}", "${A:?no}"),
    ],
)
def test_variables_are_expanded_as_builders_do(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "E": ""}) == expanded


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="FROMASRUN a\\\n#<`=-E", max_size=120))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parsed = parse_dockerfile(text)
    except DockerfileRefusedError:
        return
    assert parsed.stages
