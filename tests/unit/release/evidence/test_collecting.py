"""Collectors run side by side; where one fails nothing is half collected, and every failure is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.unit.release.evidence.images_made import bom, build_record, layer, make_image, metadata, pypi, sbom_of

from pratique.core.clock import ManualClock
from pratique.release.build.record import write_record
from pratique.release.errors import EvidenceError, ToolFailedError
from pratique.release.evidence.collecting import Plan, collect_all, run_collectors
from pratique.release.evidence.interface import Image, Predicate
from pratique.release.evidence.settings import EvidenceSettings
from pratique.release.predicates import DEPENDENCY_DIFF, HYGIENE, PROVENANCE, SBOM
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit


class Says:
    """A collector that says one thing, or fails."""

    def __init__(self, name: str, answer: Predicate | Exception, meets: threading.Barrier | None = None) -> None:
        self.name = name
        self._answer = answer
        self._meets = meets

    def collect(self, image: Image) -> Predicate:
        if self._meets is not None:
            self._meets.wait(5)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return make_image(tmp_path / "image")


def test_collectors_run_side_by_side_and_answer_in_their_order(image: Image) -> None:
    barrier = threading.Barrier(2)
    found = run_collectors(
        image, [Says(name, Predicate(HYGIENE, {"x": name}), barrier) for name in ("b", "a")], say=lambda _: None
    )
    assert [one.name for one in found] == ["b", "a"]
    assert found[0].statement.subjects == (image.subject.digest,)
    assert found[0].statement.predicate_type == HYGIENE


def test_every_failure_is_told_and_nothing_is_returned(image: Image) -> None:
    collectors = [
        Says("good", Predicate(HYGIENE, {})),
        Says("bad", EvidenceError("one thing")),
        Says("worse", ToolFailedError("another")),
    ]
    with pytest.raises(EvidenceError, match="one thing") as caught:
        run_collectors(image, collectors, say=lambda _: None)
    assert caught.value.__notes__ == ["worse failed too: another"]


def test_a_defect_is_not_taken_for_a_failure_of_evidence(image: Image) -> None:
    with pytest.raises(ZeroDivisionError):
        run_collectors(image, [Says("broken", ZeroDivisionError())], say=lambda _: None)


def test_what_is_made_from_a_bill_of_materials_names_it(image: Image, tmp_path: Path) -> None:
    own = sbom_of(image.subject.digest, pypi("a", "1"))
    write_record(tmp_path / "record.json", build_record(image.subject.digest))
    plan = Plan(EvidenceSettings(), sbom=own, record=tmp_path / "record.json", compare=True)
    found = collect_all(image, plan, ManualClock(), say=lambda _: None)
    assert [one.statement.predicate_type for one in found] == [DEPENDENCY_DIFF, PROVENANCE]
    assert all(
        own.digest.encode() in one.statement.payload or own.digest[7:].encode() in one.statement.payload
        for one in found
    )


def test_a_bill_of_materials_is_made_where_none_is_given(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Predicate(SBOM, bom(pypi("a", "1")))
    monkeypatch.setattr("pratique.release.evidence.collecting.SbomCollector.collect", lambda _self, _image: made)
    plan = Plan(EvidenceSettings(), compare=True, others=(Says("hygiene", Predicate(HYGIENE, {})),))
    said: list[str] = []
    found = collect_all(image, plan, ManualClock(), say=said.append)
    assert [one.name for one in found] == ["sbom", "hygiene", "dependencies"]
    assert said == ["sbom …", "hygiene …", "dependencies …"]


def test_a_bill_of_materials_made_elsewhere_is_held_against_the_image(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", layer(("a.dist-info/METADATA", metadata("a", "1"))))
    for components, why in (([pypi("b", "1")], "leaves out 1 packages"), ([{"name": "no type"}], "breaks CycloneDX")):
        plan = Plan(EvidenceSettings(), sbom=sbom_of(image.subject.digest, *components))
        with pytest.raises(EvidenceError, match=why):
            collect_all(image, plan, ManualClock(), say=lambda _: None)
    other = Plan(EvidenceSettings(), sbom=sbom_of(digest_of(b"other"), pypi("a", "1")))
    with pytest.raises(EvidenceError, match="bill of materials is about"):
        collect_all(image, other, ManualClock(), say=lambda _: None)
