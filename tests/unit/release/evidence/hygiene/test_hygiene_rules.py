"""What an image must not carry is found, by rule, level and place; what looks alike is left alone."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pratique.core.secrets.model import Report
from pratique.core.secrets.text import find_hits
from pratique.release.build.layout import add_layer, canonical_json, write_image
from pratique.release.errors import EvidenceError, ToolFailedError
from pratique.release.evidence.hygiene.collector import HygieneCollector, inspect_layout
from pratique.release.evidence.hygiene.config import ImageConfig, findings_in_config, parse_config
from pratique.release.evidence.hygiene.files import findings_in_files
from pratique.release.evidence.hygiene.findings import settle
from pratique.release.evidence.hygiene.layers import findings_in_secrets, findings_in_weight
from pratique.release.evidence.hygiene.lint import read_lint
from pratique.release.evidence.hygiene.settings import Allowance, HygieneSettings
from pratique.release.evidence.hygiene.tree import FileTree
from pratique.release.evidence.interface import Image
from pratique.release.predicates import HYGIENE, Finding, Hygiene
from pratique.release.registry.interface import Manifest
from pratique.release.values import Digest, Subject
from pratique.testkit.guard.scan.corpus import true_cases

pytestmark = pytest.mark.unit

KEY = next(find_hits(case.text)[0].secret for case in true_cases(seed=5, per_rule=2) if case.rule == "github-token")
GOOD = {"User": "1000", "Healthcheck": {"Test": ["CMD", "x"]}, "Env": ["PATH=/bin"]}


def config_of(history: tuple[str, ...] = (), **changes: Any) -> ImageConfig:
    steps = [{"created_by": text} for text in history]
    return parse_config(json.dumps({"config": GOOD | changes, "history": steps}).encode())


def rules(image: ImageConfig) -> list[tuple[str, str]]:
    return [(finding.rule, finding.where) for finding in findings_in_config(image)]


def test_a_good_configuration_has_no_finding() -> None:
    assert rules(config_of(("RUN pip install x", "COPY --from=site /a /b"))) == []


@pytest.mark.parametrize("user", ["", "0", "root", "0:0", "root:1000", "00"])
def test_root_by_any_name_is_told(user: str) -> None:
    assert rules(config_of(User=user)) == [("root-user", "User")]


@pytest.mark.parametrize("check", [None, {}, {"Test": []}, {"Test": ["NONE"]}])
def test_no_health_check_is_told(check: object) -> None:
    assert rules(config_of(Healthcheck=check)) == [("health-check", "Healthcheck")]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"Env": ["PATH=/bin", f"GH={KEY}"]}, "Env GH"),
        ({"Env": ["DB_PASSWORD=hunter2"]}, "Env DB_PASSWORD"),
        ({"Labels": {"note": KEY}}, "Labels note"),
        ({"Entrypoint": ["run", KEY]}, "Entrypoint"),
        ({"Cmd": ["run", KEY]}, "Cmd"),
        ({"history": (f"RUN curl -H {KEY}",)}, "history 1"),
        ({"history": ("ARG X", "|2 A=b API_TOKEN=hunter2 /bin/sh -c make")}, "history 2"),
        ({"history": ("RUN |1 API_TOKEN=hunter2 /bin/sh -c make # buildkit",)}, "history 1"),
        ({"history": ("/bin/sh -c #(nop)  ARG SECRET=hunter2",)}, "history 1"),
        ({"history": ("/bin/sh -c #(nop) ENV A=1 PASSWORD=hunter2",)}, "history 1"),
    ],
)
def test_a_secret_in_configuration_or_history_is_told(changes: dict[str, Any], where: str) -> None:
    found = list(findings_in_config(config_of(**changes)))
    assert [(one.rule, one.level, one.where) for one in found] == [("secret-in-configuration", "error", where)]
    assert KEY[8:30] not in found[0].message


@pytest.mark.parametrize(
    "variable",
    ["DB_PASSWORD_FILE=/run/secrets/db", "DB_PASSWORD=/run/secrets/db", "TOKEN=$OTHER", "SECRET=changeme", "PASSWORD="],
)
def test_references_and_placeholders_are_no_secrets(variable: str) -> None:
    assert rules(config_of(Env=[variable])) == []


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (("/bin/sh -c #(nop) COPY dir:0123 in /src ", "/bin/sh -c pip3 install -r x"), True),
        (("COPY . . # buildkit", "RUN /bin/sh -c apt-get update && apt-get install -y curl # buildkit"), True),
        (("/bin/sh -c #(nop) COPY file:0123 in /requirements.txt ", "/bin/sh -c pip3 install -r x"), False),
        (("RUN pip install x", "COPY . /src"), False),
        (("COPY . /src", "RUN make"), False),
    ],
)
def test_packages_installed_after_the_source_are_told(history: tuple[str, ...], told: bool) -> None:
    assert (rules(config_of(history)) == [("layer-order", "history 2")]) is told


def test_a_configuration_that_is_none_is_refused() -> None:
    with pytest.raises(EvidenceError, match="malformed"):
        parse_config(b'{"config": {"Env": "x"}}')


def layer_of(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for one in members:
            if isinstance(one, tarfile.TarInfo):
                tar.addfile(one)
                continue
            info = tarfile.TarInfo(one[0])
            info.size = len(one[1])
            tar.addfile(info, io.BytesIO(one[1]))
    return out.getvalue()


def special(name: str, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.type = mode, kind
    return info


def inspect(folder: Path, *layers: bytes, settings: HygieneSettings | None = None, **config: Any) -> Hygiene:
    added = [add_layer(folder, io.BytesIO(layer)) for layer in layers]
    text = {"config": GOOD | config, "rootfs": {"diff_ids": [layer.diff_id for layer in added]}}
    write_image(folder, canonical_json(text), added)
    return inspect_layout(folder, settings or HygieneSettings())


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("usr/bin/gcc-12", "toolchain"),
        ("usr/bin/x86_64-linux-gnu-ld", "toolchain"),
        ("usr/local/bin/go", "toolchain"),
        ("opt/venv/bin/pip3.11", "package-installer"),
        ("usr/lib/python3/dist-packages/pip/__init__.py", "package-installer"),
        ("usr/local/bin/npm", "package-installer"),
        ("var/lib/apt/lists/deb.debian.org_debian_InRelease", "package-cache"),
        ("var/cache/apt/archives/curl_8_amd64.deb", "package-cache"),
        ("root/.cache/pip/http/a", "package-cache"),
        ("tmp/build/x.o", "package-cache"),
        ("app/.git/config", "left-over"),
        ("root/.netrc", "left-over"),
        ("home/me/.docker/config.json", "left-over"),
        ("home/me/.ssh/id_ed25519", "left-over"),
    ],
)
def test_what_a_build_left_behind_is_told(tmp_path: Path, path: str, rule: str) -> None:
    found = inspect(tmp_path, layer_of((path, b"x")))
    assert [(one.rule, one.where) for one in found.findings] == [(rule, f"/{path}")]


@pytest.mark.parametrize(
    "path", ["usr/bin/cat", "usr/share/gcc/python", "app/pip", "usr/bin/ldd", "app/.github/x", "srv/git/config"]
)
def test_what_only_looks_alike_is_left_alone(tmp_path: Path, path: str) -> None:
    assert inspect(tmp_path, layer_of((path, b"x"))).findings == ()


def test_modes_that_give_rights_away_and_devices_are_told(tmp_path: Path) -> None:
    layer = layer_of(
        special("su", 0o4755),
        special("wall", 0o2755),
        special("open", 0o666),
        special("spool", 0o777, tarfile.DIRTYPE),
        special("tmp", 0o1777, tarfile.DIRTYPE),
        special("mail", 0o2775, tarfile.DIRTYPE),
        special("link", 0o777, tarfile.SYMTYPE),
        special("null", 0o666, tarfile.CHRTYPE),
    )
    assert [(one.rule, one.where) for one in inspect(tmp_path, layer).findings] == [
        ("device-file", "/null"),
        ("set-id", "/su"),
        ("set-id", "/wall"),
        ("world-writable", "/open"),
        ("world-writable", "/spool"),
    ]


def test_a_program_with_capabilities_of_its_own_is_told_like_one_with_set_uid(tmp_path: Path) -> None:
    program = tarfile.TarInfo("ping")
    program.mode, program.pax_headers = 0o755, {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20"}
    found = inspect(tmp_path, layer_of(program))
    assert [(one.rule, one.level, one.where) for one in found.findings] == [("set-id", "error", "/ping")]
    assert inspect(tmp_path, layer_of(program), layer_of(special("ping", 0o755))).findings == ()


def test_a_later_layer_that_takes_the_rights_away_settles_it(tmp_path: Path) -> None:
    assert inspect(tmp_path, layer_of(special("su", 0o4755)), layer_of(special("su", 0o755))).findings == ()


def test_a_secret_is_found_in_a_file_that_a_later_layer_deletes(tmp_path: Path) -> None:
    found = inspect(
        tmp_path, layer_of(("app/.env", KEY.encode())), layer_of(("app/.wh..env", b""), ("b", KEY.encode()))
    )
    assert [(one.rule, one.level, one.where) for one in found.findings] == [
        ("secret-in-file", "error", "/app/.env"),
        ("secret-in-file", "error", "/b"),
    ]
    deleted, kept = found.findings
    assert "of layer 1, which a later layer deletes" in deleted.message
    assert "of layer 2:" in kept.message
    assert KEY[8:30] not in deleted.message + kept.message


def test_a_secret_far_into_a_large_file_is_found(tmp_path: Path) -> None:
    content = b"words \n" * 1_500_000 + KEY.encode()
    assert [one.rule for one in inspect(tmp_path, layer_of(("log", content))).findings] == ["secret-in-file"]


def test_weight_and_waste_are_held_against_their_budgets(tmp_path: Path) -> None:
    settings = HygieneSettings(size_budget_bytes=10, wasted_budget_bytes=99)
    found = inspect(tmp_path, layer_of(("a", b"x" * 100)), layer_of(("a", b"y")), settings=settings)
    assert (found.wasted_bytes, [(one.rule, one.level) for one in found.findings]) == (
        100,
        [("size", "error"), ("wasted-bytes", "warning")],
    )
    assert "/a, 100, layer 1 to 2" in found.findings[1].message
    assert list(findings_in_weight(FileTree(), size=10, size_budget=10, wasted_budget=0)) == []


def test_every_rule_that_ran_is_named_and_the_dockerfile_is_none_of_them(tmp_path: Path) -> None:
    found = inspect(tmp_path, layer_of(("a", b"x")))
    assert {"root-user", "secret-in-file", "set-id", "size", "layer-order"} <= set(found.checked)
    assert "dockerfile" not in found.checked
    assert msgspec.json.decode(msgspec.json.encode(found), type=Hygiene) == found


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    bomb = layer_of(("zeros", bytes(20_000_000)))
    with pytest.raises(EvidenceError, match="more bytes"):
        inspect(tmp_path, bomb, settings=HygieneSettings(num_bytes_limit=10_000_000))


def test_an_image_without_layers_was_not_looked_at(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="no layer"):
        inspect(tmp_path)


def test_the_collector_looks_at_the_image_that_it_was_asked_about(tmp_path: Path) -> None:
    inspect(tmp_path, layer_of(("a", b"x")))
    digest = json.loads((tmp_path / "index.json").read_bytes())["manifests"][0]["digest"]
    collector = HygieneCollector(HygieneSettings())

    def image(digest: str) -> Image:
        manifest = Manifest(b"", "", Digest(digest))
        return Image(Subject("host/a", Digest(digest)), manifest, b"", None, tmp_path)

    found = collector.collect(image(digest))
    assert (collector.name, found.type) == ("hygiene", HYGIENE)
    assert isinstance(found.content, Hygiene)
    with pytest.raises(EvidenceError, match="was to be looked at"):
        collector.collect(image("sha256:" + "0" * 64))


def test_what_somebody_answers_for_is_told_as_a_note() -> None:
    finding = Finding(rule="set-id", level="error", where="/usr/bin/su", message="m.")
    allow = Allowance(rule="set-id", where="/usr/bin/*", reason="until the base is made anew")
    [settled] = settle([finding], [allow])
    assert (settled.level, settled.message) == ("note", "m. Allowed: until the base is made anew")
    for other in (
        Allowance(rule="size", where="*", reason="x" * 10),
        Allowance(rule="set-id", where="/bin/*", reason="x" * 10),
    ):
        assert settle([finding], [other]) == (finding,)


def test_an_allowance_needs_a_reason() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"rule": "size", "where": "*", "reason": "because"}, Allowance)


def test_findings_without_end_are_counted_and_told_in_order() -> None:
    many = [Finding(rule="size", level="warning", where=f"{n:03}", message="m") for n in range(70, 0, -1)]
    settled = settle([*many, *many, Finding(rule="b", level="error", where="z", message="m")], [])
    assert [settled[0].rule, settled[1].where, len(settled)] == ["b", "001", 52]
    assert (settled[-1].where, settled[-1].message) == ("", "and 20 more")


def test_the_findings_of_an_empty_report_and_tree_are_none() -> None:
    assert list(findings_in_secrets(FileTree(), Report())) == list(findings_in_files(FileTree())) == []


def test_what_hadolint_says_is_read_and_unknown_levels_are_errors() -> None:
    told = [
        {"code": "DL3002", "column": 1, "file": "F", "level": level, "line": 3, "message": "m"}
        for level in ("error", "warning", "info", "style", "fatal")
    ]
    found = list(read_lint(json.dumps(told).encode()))
    assert [one.level for one in found] == ["error", "warning", "note", "note", "error"]
    assert (found[0].rule, found[0].where) == ("dockerfile DL3002", "Dockerfile line 3")
    with pytest.raises(ToolFailedError, match="expected hadolint's JSON"):
        list(read_lint(b"oops"))
