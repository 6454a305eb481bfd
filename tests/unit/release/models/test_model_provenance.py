"""Where a model comes from, in SLSA's words."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from tests.unit.release.models.model_parts import OTHER, POLICY

from pratique.core.errors import CallerError
from pratique.release.models.provenance import BUILD_TYPE, Training, provenance_of

pytestmark = pytest.mark.unit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TRAINING = Training(repository="https://git.example/team/train", commit=COMMIT, builder="https://ci.example/train")


@pytest.mark.parametrize(
    "changes",
    [
        {"commit": "main"},
        {"commit": COMMIT[:12]},
        {"repository": ""},
        {"builder": ""},
        {"parameters": {"base": "sha256:…"}},
    ],
)
def test_what_proves_nothing_is_not_written(changes: dict[str, object]) -> None:
    with pytest.raises(CallerError):
        provenance_of(replace(TRAINING, **changes))  # type: ignore[arg-type]  # one of the fields, by its name


def test_commit_base_and_data_are_named_by_digest() -> None:
    training = replace(
        TRAINING,
        ref="refs/tags/v1",
        authors=("dev@team.example",),
        base=OTHER,
        datasets={"support-chats": POLICY},
        parameters={"epochs": "3"},
    )
    told = msgspec.to_builtins(provenance_of(training))
    definition = told["buildDefinition"]
    assert definition["buildType"] == BUILD_TYPE
    assert definition["externalParameters"] == {
        "source": "https://git.example/team/train",
        "base": OTHER,
        "datasets": {"support-chats": POLICY},
        "epochs": "3",
    }
    assert list(definition["resolvedDependencies"]) == [
        {
            "name": "source",
            "uri": "git+https://git.example/team/train@refs/tags/v1",
            "digest": {"gitCommit": COMMIT},
            "annotations": {"authors": ["dev@team.example"]},
        },
        {"name": "base", "digest": {"sha256": OTHER[7:]}, "annotations": {"kind": "model"}},
        {"name": "support-chats", "digest": {"sha256": POLICY[7:]}, "annotations": {"kind": "dataset"}},
    ]


def test_a_model_from_nothing_has_its_source_alone() -> None:
    definition = provenance_of(TRAINING).build_definition
    assert definition.external_parameters == {"source": "https://git.example/team/train"}
    assert [one.uri for one in definition.resolved_dependencies] == [f"git+https://git.example/team/train@{COMMIT}"]
