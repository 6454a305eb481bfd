"""The drill's decisions: what is broken and when, what was lost, how long nothing answered, what the report says."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from benchmarks.drill.faults import Fault, Kind, Part, draw_faults, parts_of
from benchmarks.drill.history import History, Said, Silence
from benchmarks.drill.nemesis import DoneFault
from benchmarks.drill.outages import Sample, find_outages, make_episodes, summarize
from benchmarks.drill.report import Results, render_markdown, render_table, render_timeline
from benchmarks.drill.run import find_own_faults
from benchmarks.drill.verdict import Verdict, judge
from benchmarks.history.record import SeenTurn

pytestmark = pytest.mark.unit

PARTS = parts_of(orchestrators=3, inference=2)
EDGE = Part(name="edge", role="edge", kinds=(Kind.KILL, Kind.PAUSE))


def test_the_same_seed_breaks_the_same_things_at_the_same_times() -> None:
    assert draw_faults(PARTS, seed=7, seconds=600) == draw_faults(PARTS, seed=7, seconds=600)
    assert draw_faults(PARTS, seed=7, seconds=600) != draw_faults(PARTS, seed=8, seconds=600)


def test_ten_minutes_break_every_part_in_every_way_and_end_in_time() -> None:
    faults = draw_faults(PARTS, seed=1, seconds=595)
    assert {fault.label for fault in faults} == {f"{kind.value} {part.role}" for part in PARTS for kind in part.kinds}
    assert all(fault.kind in fault.part.kinds for fault in faults)
    assert max(fault.begins + fault.lasts for fault in faults) <= 595
    assert [fault.begins for fault in faults] == sorted(fault.begins for fault in faults)
    overlaps = [after for before, after in pairwise(faults) if after.begins < before.begins + before.lasts]
    assert overlaps, "some faults come together"


def said(**more: Any) -> Said:
    fields: dict[str, Any] = {
        "person": "ann",
        "transport": "sse",
        "number": 1,
        "client_message_id": "ann-000001",
        "text": "hello",
        "sent": 1.0,
        "conversation_id": "conv_1",
        "acknowledged": 1.1,
        "user_turn_id": "turn_1",
        "generation_id": "gen_1",
        "ended": 2.0,
        "reply": "to you",
        "turn_id": "turn_2",
        "finish_reason": "stop",
    }
    return Said(**{**fields, **more})


def user(text: str = "hello", **more: str) -> SeenTurn:
    return SeenTurn(**{"turn_id": "turn_1", "role": "user", "generation_id": "gen_1", **more}, text=text)


def answer(text: str = "to you", **more: str) -> SeenTurn:
    return SeenTurn(**{"turn_id": "turn_2", "role": "assistant", "generation_id": "gen_1", **more}, text=text)


def test_what_is_stored_as_it_was_seen_is_clean() -> None:
    seen = said(events=[(1, None, None), (2, "to ", None), (3, "you", None), (4, None, "stop")])
    assert judge([seen], {"conv_1": [user(), answer()]}, expected=lambda _: "to you").is_clean


@pytest.mark.parametrize(
    ("stored", "place"),
    [
        ([], "lost"),
        ([answer()], "lost"),
        ([user(), user(turn_id="turn_9", generation_id="gen_9"), answer()], "duplicated"),
        ([user(), answer(), answer(turn_id="turn_3")], "duplicated"),
        ([user(), answer("to")], "different"),
        ([user()], "different"),
        ([user(), answer("to you you")], "different"),
    ],
)
def test_what_is_stored_otherwise_is_named(stored: list[SeenTurn], place: str) -> None:
    assert getattr(judge([said()], {"conv_1": stored} if stored else {}), place)


def test_acknowledged_turns_against_the_order_of_sending_are_named() -> None:
    first = said()
    second = said(number=2, client_message_id="ann-000002", text="more", sent=3.0, acknowledged=3.1, ended=None)
    second.user_turn_id, second.generation_id = "turn_3", "gen_2"
    turns = [user("more", turn_id="turn_3", generation_id="gen_2"), user(), answer()]
    assert judge([first, second], {"conv_1": turns}).disordered


def test_message_that_was_never_acknowledged_may_be_stored_or_not_but_once() -> None:
    lost = said(acknowledged=None, user_turn_id=None, generation_id=None, ended=None, reply="")
    assert judge([lost], {}).is_clean
    assert judge([lost], {"conv_1": [user()]}).is_clean
    assert judge([lost], {"conv_1": [user(), user(turn_id="turn_9")]}).duplicated


def test_stored_reply_with_a_hole_is_found_though_nobody_watched_it() -> None:
    seen = said(reply="to  you", finish_reason="stop")
    assert judge([seen], {"conv_1": [user(), answer("to  you")]}, expected=lambda _: "to all of you").different


def test_reply_called_whole_that_ends_early_is_named() -> None:
    assert judge([said(reply="to")], {"conv_1": [user(), answer("to")]}, expected=lambda _: "to you").different
    cut = said(reply="to", finish_reason="error")
    assert judge([cut], {"conv_1": [user(), answer("to")]}, expected=lambda _: "to you").is_clean


def test_what_runs_for_ever_and_what_people_saw_wrong_is_named() -> None:
    verdict = judge([said(faults=["event 3 after event 1"])], {"conv_1": [user(), answer()]}, running=["gen_7"])
    assert verdict.unfinished == ["the generation gen_7 still runs"]
    assert verdict.other == ["ann #1 (sse, gen_1): event 3 after event 1"]


def samples(*ends: tuple[float, float, bool], question: str = "write") -> list[Sample]:
    return [Sample(question=question, began=began, ended=ended, is_ok=is_ok) for began, ended, is_ok in ends]


def done(began: float, ended: float, kind: Kind = Kind.KILL, part: Part = EDGE) -> DoneFault:
    fault = Fault(number=1, kind=kind, part=part, begins=began, lasts=ended - began)
    return DoneFault(fault=fault, began=began, ended=ended)


def test_outage_lasts_from_the_first_failed_probe_to_the_next_good_one() -> None:
    [outage] = find_outages(samples((0, 0.1, True), (1, 1.5, False), (2, 2.5, False), (3, 3.2, True)))
    assert (outage.began, outage.noticed, outage.ended) == (1, 1.5, 3.2)


def test_outage_that_never_ends_ends_with_the_last_probe() -> None:
    [outage] = find_outages(samples((1, 1.5, True), (2, 2.5, False), (3, 3.5, False)))
    assert (outage.began, outage.ended) == (2, 3.5)


def test_outages_belong_to_the_fault_before_they_were_noticed_and_overlaps_are_one_episode() -> None:
    probes = samples((9.9, 10.2, False), (11, 11.5, True), (20.6, 20.7, False), (21, 21.2, True))
    faults = [done(10, 10), done(20, 23, Kind.PAUSE), done(20.5, 22)]
    episodes = make_episodes(faults, find_outages(probes), [Silence(at=12.0, seconds=1.5)])
    assert [episode.label for episode in episodes] == ["kill edge", "several at once"]
    assert [round(episode.recovery_seconds, 2) for episode in episodes] == [1.5, 1.2]
    assert [round(episode.unavailable_seconds, 2) for episode in episodes] == [1.5, 0.6]
    assert [episode.longest_silence_seconds for episode in episodes] == [1.5, 0.0]


def test_two_questions_without_an_answer_at_once_count_once() -> None:
    probes = [*samples((1, 2, False), (3, 3, True)), *samples((2, 2.5, False), (4, 4, True), question="read")]
    [episode] = make_episodes([done(0.5, 0.5)], find_outages(probes))
    assert episode.unavailable_seconds == pytest.approx(3.0)
    [summary] = summarize([episode])
    assert summary.count == 1
    assert summary.recovery_max_seconds == pytest.approx(3.5)


def results(verdict: Verdict) -> Results:
    episodes = make_episodes([done(1, 2, Kind.PAUSE)], find_outages(samples((1.1, 1.2, False), (2, 2.2, True))))
    history = History()
    history.trouble(1.2, "sse", "no_replica (503)")
    return Results(
        seed=5,
        seconds=30.0,
        machine={"cpus": 2},
        turns={"messages sent": 3},
        errors=history.count_troubles(),
        verdict=verdict,
        episodes=episodes,
        outages=[outage for episode in episodes for outage in episode.outages],
        summaries=summarize(episodes),
        notes=["pause edge could not be done"],
    )


def test_every_form_of_the_report_says_what_was_broken_and_what_it_came_to() -> None:
    broken = results(Verdict(lost=["conv_1: message 3"]))
    assert broken.as_json()["holds"] is False
    assert json.loads(json.dumps(broken.as_json()))["violations"]["lost"] == ["conv_1: message 3"]
    for text in (render_table(broken), render_markdown(broken)):
        assert "conv_1: message 3" in text
        assert "pause edge" in text
        assert "no_replica (503)" in text
    assert "An invariant was broken." in render_markdown(broken)
    assert "no violation" in render_table(results(Verdict()))
    rows = [element.text for element in ET.fromstring(render_timeline(broken)).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own
    assert rows[:2] == ["edge", "no answer: write"]


def test_history_is_written_one_message_a_line(tmp_path: Path) -> None:
    history = History()
    history.said += [said(), said(number=2)]
    history.write(tmp_path / "history.jsonl")
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2]


def test_errors_that_a_replica_logged_are_noted_with_their_reason(tmp_path: Path) -> None:
    lines = [
        {"level": "info", "event": "generation_ended"},
        {"level": "error", "event": "producer_failed", "exception": "Traceback\n  …\nValueError: no"},
        {"event": "error: unexpected ExceptionGroup"},
    ]
    text = "\n".join([json.dumps(lines[0]), "no JSON", *(json.dumps(line) for line in [*lines[1:], lines[1]])])
    (tmp_path / "orchestrator-1.log").write_text(text)
    assert find_own_faults(tmp_path) == [
        "orchestrator-1 logged producer_failed, 2 times: ValueError: no",
        "orchestrator-1 logged error: unexpected ExceptionGroup, 1 times: ",
    ]
