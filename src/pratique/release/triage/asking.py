"""Asks the index: which images are concerned, where they run, since when, and how they came by what is affected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pratique.release.advisories.database import AdvisoryDatabase
from pratique.release.advisories.records import Advisory
from pratique.release.errors import UnavailableError
from pratique.release.triage.answer import AdvisoryNote, Answer, ComponentNote, Placement, ReachNote, RunningImage
from pratique.release.triage.index import Holding, TriageIndex
from pratique.release.triage.judging import Concerned, judge_components, names_of
from pratique.release.triage.places import Place
from pratique.release.triage.question import PackageRange, Question
from pratique.release.values import Digest

__all__ = ["UnknownAdvisoryError", "answer", "ask"]


class UnknownAdvisoryError(UnavailableError):
    """No advisory of that name is in the database: whether it concerns anything is not known."""

    code = "unknown_advisory"


def ask(
    question: Question, index: TriageIndex, database: AdvisoryDatabase | None, *, max_images: int | None = None
) -> Answer:
    """Answer a question.

    Args:
        question: what is asked.
        index: what images are made of, and where they run.
        database: of advisories; None is enough for a package.
        max_images: list so many digests; None: all. Counted are all, and all that run are told.

    Raises:
        UnknownAdvisoryError: no advisory has that name.
        UnavailableError: the index or the database cannot be read.
    """
    if isinstance(question, PackageRange):
        return answer(question.text, (question.advisory,), index, max_images=max_images)
    found = database.named(question) if database is not None else ()
    if not found:
        raise UnknownAdvisoryError(
            f"no advisory has the name '{question}'",
            hint="Import newer data: pratique advisories import; or ask for the package: NAME@RANGE.",
        )
    return answer(question, found, index, max_images=max_images)


def answer(
    question: str, advisories: Sequence[Advisory], index: TriageIndex, *, max_images: int | None = None
) -> Answer:
    """Say what some advisories mean for the images of an index.

    Raises:
        IndexUnavailableError: it cannot be read.
    """
    candidates = [one for family, name in names_of(advisories) for one in index.named(family, name)]
    concerned = judge_components(candidates, advisories)
    components = list(dict.fromkeys(one.component.id for one in concerned))
    places = index.places()
    held = index.holdings(components, list(dict.fromkeys(one.digest for one in places)))
    images = index.images_with(components, limit=max_images)
    num_images = index.num_with(components) if len(images) == max_images else len(images)
    counts = dict.fromkeys(components, num_images) if len(components) == 1 else index.counts(components)
    return Answer(
        question=question,
        advisories=tuple(_advisory(one) for one in advisories),
        components=_components(concerned, counts),
        running=_reached(_running(places, {one.image for one in held}), concerned, held),
        num_images=num_images,
        images=images,
        unknown=tuple(_running(places, index.without_sbom()).values()),
        num_images_known=index.num_images(),
    )


def _advisory(one: Advisory) -> AdvisoryNote:
    return AdvisoryNote(id=one.id, aliases=(*one.aliases, *one.upstream), severity=one.severity, summary=one.summary)


def _components(concerned: Iterable[Concerned], counts: Mapping[int, int]) -> tuple[ComponentNote, ...]:
    by_component: dict[str, list[Concerned]] = {}
    for one in concerned:
        by_component.setdefault(one.component.purl, []).append(one)
    return tuple(
        ComponentNote(
            package=purl,
            verdict="affected" if any(one.judgement.verdict == "affected" for one in group) else "undetermined",
            advisories=tuple(dict.fromkeys(one.advisory.id for one in group)),
            fixed_in=tuple(dict.fromkeys(fix for one in group for fix in one.judgement.fixed_in)),
            num_images=counts.get(group[0].component.id, 0),
        )
        for purl, group in sorted(by_component.items())
    )


def _running(places: Iterable[Place], images: set[Digest]) -> dict[Digest, RunningImage]:
    found: dict[Digest, RunningImage] = {}
    for one in places:
        if one.digest in images:
            placed = Placement(environment=one.environment, role=one.role, target=one.target, since=one.since)
            before = found[one.digest].places if one.digest in found else ()
            found[one.digest] = RunningImage(
                digest=one.digest, repository=one.repository, places=(*before, placed), reached=()
            )
    return found


def _reached(
    running: dict[Digest, RunningImage], concerned: Iterable[Concerned], held: Iterable[Holding]
) -> tuple[RunningImage, ...]:
    purls = {one.component.id: one.component.purl for one in concerned}
    notes: dict[Digest, list[ReachNote]] = {digest: [] for digest in running}
    for one in held:
        reach = one.reach
        notes[one.image].append(
            ReachNote(
                package=purls[one.component],
                layer=reach.layer,
                is_base=reach.is_base,
                location=reach.location,
                chain=reach.chain,
            )
        )
    return tuple(
        RunningImage(digest=digest, repository=one.repository, places=one.places, reached=tuple(notes[digest]))
        for digest, one in running.items()
    )
