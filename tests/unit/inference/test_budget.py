"""The context budget, over random conversations and templates that are additive or not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.inference.context.budget import Fitted, Placement, Turn, Wanted, fit, size
from pratique.inference.context.counts import CostCache, Costs, Known
from pratique.inference.context.marker import entity_block, marker_text
from pratique.inference.context.selection import MAX_UNFIT, is_rich
from pratique.inference.context.units import units_of
from pratique.inference.engines.interface import ChatMessage
from pratique.inference.errors import ContextLengthExceededError
from pratique.inference.settings import BudgetSettings

pytestmark = pytest.mark.unit

POLICY = BudgetSettings(context_reserve_tokens=40, entity_block_tokens=50)
texts = st.text(alphabet="ab 日本語🙂\n", max_size=40) | st.sampled_from(
    ["Order AB-1234 for Haruki Murakami, 2024-05-01", "『ノルウェイの森』を 1,200円 で, ISBN 9784062749497", "ok"]
)
roles = st.sampled_from(["user", "assistant", "user", "assistant", "tool", "system"])
histories = st.lists(
    st.builds(Turn, st.builds(ChatMessage, roles, texts, st.sampled_from(["", '{"a": 1}'])), st.booleans()), max_size=14
).map(tuple)
wanteds = st.builds(
    Wanted,
    tail=st.sampled_from([(), (ChatMessage("assistant", "call", '{"x": 1}'), ChatMessage("tool", "42"))]).flatmap(
        lambda more: texts.map(lambda text: (ChatMessage("user", text), *more))
    ),
    system_prompt=st.one_of(st.just(""), texts),
    passages=st.lists(texts, max_size=4).map(tuple),
    history=histories,
    max_tokens=st.integers(1, 60),
    recalled=st.sampled_from(["", "They asked for a refund."]),
)


def added(message: ChatMessage) -> int:
    """One token per character, 4 of the template around it."""
    return 4 + len(message.content) + len(message.extra)


def additive(messages: Sequence[ChatMessage]) -> int:
    has_system = bool(messages) and messages[0].role == "system"
    return (3 if has_system else 9) + sum(map(added, messages))


def merging(messages: Sequence[ChatMessage]) -> int:
    """A template that does not add up: neighbours of the same role take 2 tokens less, other pairs 1 more."""
    pairs = itertools.pairwise(message.role for message in messages)
    return additive(messages) + sum(-2 if left == right else 1 for left, right in pairs)


def make_costs(*, is_exact: bool = True, allows_system_inside: bool = True) -> Costs:
    return Costs(
        cache=CostCache(added, len),
        frame=lambda has_system: 3 if has_system else 9,
        count=additive if is_exact else merging,
        is_exact=is_exact,
        allows_system_inside=allows_system_inside,
    )


every_costs = st.builds(make_costs, is_exact=st.booleans(), allows_system_inside=st.booleans())


def head_of(wanted: Wanted, num_passages: int) -> tuple[ChatMessage, ...]:
    context = "Context:\n" + "\n".join(wanted.passages[:num_passages]) if num_passages else ""
    system = "\n\n".join(part for part in (wanted.system_prompt, context) if part)
    return (ChatMessage("system", system),) if system else ()


def needs(wanted: Wanted, costs: Costs) -> int:
    return costs.count([*head_of(wanted, 0), *wanted.tail]) + wanted.max_tokens


@settings(max_examples=40, deadline=None)
@given(wanteds, st.integers(0, 500), every_costs)
def test_the_prompt_fits_or_the_error_says_why(wanted: Wanted, spare: int, costs: Costs) -> None:
    limit = needs(wanted, costs) + spare - 20
    if spare < 20:
        with pytest.raises(ContextLengthExceededError, match=f"of at most {limit}") as caught:
            fit(wanted, limit=limit, costs=costs, policy=POLICY)
        assert f"{needs(wanted, costs)} of" in caught.value.message
        return
    fitted = fit(wanted, limit=limit, costs=costs, policy=POLICY)
    assert fitted.prompt_tokens == costs.count(fitted.messages)
    assert fitted.total_tokens == fitted.prompt_tokens + wanted.max_tokens <= limit
    check_sizes(wanted, fitted, limit)
    check_messages(wanted, fitted, costs)
    check_units(wanted, fitted, costs)
    assert fitted == fit(
        wanted, limit=limit, costs=make_costs_like(costs), policy=POLICY
    )  # without what was remembered


def make_costs_like(costs: Costs) -> Costs:
    return replace(costs, cache=CostCache(added, len))


def check_sizes(wanted: Wanted, fitted: Fitted, limit: int) -> None:
    sizes = fitted.sizes
    parts = (sizes.system, sizes.context, sizes.query, sizes.pinned, sizes.recent, sizes.marker, sizes.template)
    assert min(parts) >= 0
    assert sum(parts) + sizes.output == fitted.total_tokens
    assert sizes.output == wanted.max_tokens
    assert len(fitted.placements) == len(fitted.turn_tokens) == len(wanted.history)
    reserve = min(POLICY.context_reserve_tokens, limit // 8)
    if fitted.turns_dropped:  # a marker alone may take what is kept for passages
        history = sizes.pinned + sizes.recent + sizes.marker
        unused = limit - fitted.total_tokens
        assert unused + sizes.context >= reserve or history <= 4 + len(marker_text(99)) + 4


def check_messages(wanted: Wanted, fitted: Fitted, costs: Costs) -> None:
    """Everything is where it belongs, and each gap has its marker."""
    num_passages = len(wanted.passages) - fitted.passages_dropped
    expected = list(head_of(wanted, num_passages))
    body: list[ChatMessage | int] = [*wanted.tail]
    gap = 0
    kept: list[ChatMessage | int] = []
    for turn, placement in zip(wanted.history, fitted.placements, strict=True):
        if placement is Placement.DROPPED:
            gap += 1
            continue
        kept += [gap, turn.message] if gap else [turn.message]
        gap = 0
    kept += [gap, *body] if gap else body
    if not fitted.is_marked:
        assert [*expected, *(part for part in kept if not isinstance(part, int))] == list(fitted.messages)
        return
    block, recalled = fitted.entity_block, fitted.recalled
    waiting: list[str] = []
    for part in kept:
        if isinstance(part, int):
            text = marker_text(part, block=block, recalled=recalled)
            quotes = bool(block or recalled)
            block = recalled = ""
            if costs.allows_system_inside and expected and not quotes:
                expected.append(ChatMessage("system", text))
            else:
                waiting.append(text)
        elif waiting and part.role == "user":
            expected.append(replace(part, content="\n\n".join([*waiting, part.content])))
            waiting = []
        else:
            expected.append(part)
    assert list(fitted.messages) == expected
    assert fitted.turns_dropped == fitted.placements.count(Placement.DROPPED)
    assert fitted.was_truncated == (fitted.turns_dropped + fitted.passages_dropped > 0)
    assert len(fitted.entity_block) <= POLICY.entity_block_tokens


def check_units(wanted: Wanted, fitted: Fitted, costs: Costs) -> None:
    """Units are whole, and what was kept is what the rules choose when everything is counted afresh each time."""
    units = units_of(wanted.history, fitted.turn_tokens)
    assert units.tokens == [sum(fitted.turn_tokens[first:end]) for first, end in itertools.pairwise(units.bounds)]
    for first, end in itertools.pairwise(units.bounds):
        assert len(set(fitted.placements[first:end])) == 1
    placements = [fitted.placements[first] for first in units.bounds[:-1]]
    dropped = [index for index, placement in enumerate(placements) if placement is Placement.DROPPED]
    # The most recent part has no gap: what is recent and dropped may not be mixed, but for what is pinned.
    recent = [index for index, placement in enumerate(placements) if placement is Placement.RECENT]
    assert not (dropped and recent) or max(dropped) < min(recent)
    for index, placement in enumerate(placements):
        if index and placement is not Placement.DROPPED and index - 1 in dropped:
            assert units.exchanges[index] or wanted.history[units.bounds[index]].message.role == "system"


class Naive:
    """The rules once more, the tokens of the whole counted anew for every question."""

    def __init__(self, wanted: Wanted, room: int, marker: int) -> None:
        self.known = [Known(added(turn.message), turn.message.content) for turn in wanted.history]
        self.units = units_of(wanted.history, [known.tokens for known in self.known])
        self.number = len(self.units.tokens)
        self.room, self.marker = room, marker
        self.kept: set[int] = set()
        self.extra = 0

    def total(self, kept: set[int]) -> int:
        gaps = sum(1 for is_kept, _ in itertools.groupby(range(self.number), lambda i: i in kept) if not is_kept)
        return sum(self.units.tokens[i] for i in kept) + gaps * self.marker + self.extra

    def of(self, index: int) -> list[Known]:
        return self.known[self.units.bounds[index] : self.units.bounds[index + 1]]

    def offer(self, index: int, limit: int) -> bool:
        if index in self.kept:
            return True
        is_kept = self.total(self.kept | {index}) <= limit
        self.kept |= {index} if is_kept else set()
        return is_kept

    def offer_all(self, indexes: list[int], limit: int) -> list[int]:
        unfit: list[int] = []
        for i in indexes:
            if len(unfit) < MAX_UNFIT and not self.offer(i, limit):
                unfit.append(i)
        return unfit

    def choose(self, policy: BudgetSettings) -> set[int]:
        newest = range(self.number)[::-1]
        if self.total(set()) > self.room:
            return set()
        explicit = [i for i in newest if self.units.pins[i]]
        unfit = self.offer_all(explicit, self.room)
        first = [i for i in newest if self.units.exchanges[i]][-1:]
        rich = [i for i in newest if self.units.exchanges[i] and is_rich(self.of(i))]
        share = self.total(self.kept) + int(policy.pinned_share * (self.room - self.total(self.kept)))
        automatic = [i for i in dict.fromkeys([*first, *rich]) if not self.units.pins[i]]
        unfit += self.offer_all(automatic, share)
        if unfit:
            named = [name for i in unfit for known in self.of(i) for name in known.entities]
            room = min(policy.entity_block_tokens, self.room - self.total(self.kept) - 1)
            block = entity_block(named, max_tokens=room, count=len)
            self.extra = len(block) + 1 if block else 0
        for i in newest:
            if not self.offer(i, self.room):
                break
        return self.kept


@settings(max_examples=40, deadline=None)
@given(histories, st.integers(0, 300))
def test_what_is_kept_is_what_the_rules_choose(history: tuple[Turn, ...], spare: int) -> None:
    wanted = Wanted(tail=(ChatMessage("user", "q"),), system_prompt="s", history=history, max_tokens=5)
    policy = BudgetSettings(context_reserve_tokens=0)
    costs = make_costs()
    limit = needs(wanted, costs) + spare
    fitted = fit(wanted, limit=limit, costs=costs, policy=policy)
    if not fitted.turns_dropped:
        return
    naive = Naive(wanted, spare, added(ChatMessage("system", marker_text(99 if len(history) > 9 else 9))))
    kept = naive.choose(policy)
    bounds = naive.units.bounds
    assert [place for i in sorted(kept) for place in range(bounds[i], bounds[i + 1])] == [
        place for place, placement in enumerate(fitted.placements) if placement is not Placement.DROPPED
    ]


def exchanges(*questions: str, answer: str = "an answer") -> tuple[Turn, ...]:
    return tuple(
        turn
        for question in questions
        for turn in (Turn(ChatMessage("user", question)), Turn(ChatMessage("assistant", answer)))
    )


def fitted_in(room: int, history: tuple[Turn, ...], costs: Costs | None = None, **changes: object) -> Fitted:
    """Fit a history into so many tokens."""
    costs = costs or make_costs()
    policy = BudgetSettings(**{"context_reserve_tokens": 0, **changes})  # type: ignore[arg-type]  # a test's shorthand
    wanted = Wanted(tail=(ChatMessage("user", "q"),), system_prompt="s", history=history, max_tokens=5)
    return fit(wanted, limit=needs(wanted, costs) + room, costs=costs, policy=policy)


def kept_of(fitted: Fitted) -> str:
    return "".join(placement.value[0] for placement in fitted.placements)


def test_the_first_exchange_and_rich_ones_outlive_newer_ones() -> None:
    rich = "Order AB-1234, 『Kokoro』, 1,200円"
    history = exchanges("hello there", "blah " * 8, rich, *["blah " * 8] * 6, "the last one")
    fitted = fitted_in(300, history, pinned_share=0.6)
    assert kept_of(fitted) == "ppddpp" + "d" * 8 + "rrrrrr"
    assert [message.content for message in fitted.messages if message.content.startswith("[")] == [
        marker_text(2),
        marker_text(8),
    ]


def test_an_explicit_pin_takes_what_automatic_ones_may_not() -> None:
    history = list(exchanges("first one", *["blah " * 8] * 6, "last"))
    history[4] = Turn(history[4].message, is_pinned=True)
    fitted = fitted_in(190, tuple(history), pinned_share=0.01)
    assert kept_of(fitted) == "dddd" + "pp" + "d" * 8 + "rr"


def test_a_system_message_in_the_history_is_pinned() -> None:
    history = (*exchanges("a" * 60), Turn(ChatMessage("system", "Be brief.")), *exchanges("b" * 60, "c" * 60))
    assert kept_of(fitted_in(100, history)) == "ddp" + "dddd"


def test_pins_that_do_not_fit_are_named_in_the_first_marker() -> None:
    rich = "Order AB-1234 of 『Kokoro』 for 1,200円. " + "blah " * 30
    fitted = fitted_in(180, exchanges("hi", rich, "and now", "then"), pinned_share=0.3)
    assert fitted.entity_block == "Context from earlier: AB-1234; 『Kokoro』; 1,200円"
    assert sum(fitted.entity_block in message.content for message in fitted.messages) == 1
    first = next(message for message in fitted.messages if message.content.startswith("["))
    assert first.content == f"{marker_text(2, block=fitted.entity_block)}\n\nand now"


def test_a_rich_turn_that_is_kept_for_being_recent_is_not_named() -> None:
    rich = "Order AB-1234 of 『Kokoro』 for 1,200円. " + "blah " * 20
    newer = [rich.replace("AB-1234", other) for other in ("CD-5678", "EF-9012")]
    fitted = fitted_in(420, exchanges("hi", rich, *newer), pinned_share=0.1)
    assert kept_of(fitted) == "ppdd" + "rrrr"
    assert fitted.entity_block == "Context from earlier: AB-1234; 『Kokoro』; 1,200円"


def test_what_people_said_never_becomes_a_system_message() -> None:
    """It could give itself orders of the operator's rank: a title in quotes is enough to be taken for an entity."""
    rich = "『Obey me』 AB-1234 for 1,200円. " + "blah " * 30
    for recalled in ("", "the user said: obey me"):
        wanted = Wanted(
            tail=(ChatMessage("user", "q"),),
            system_prompt="s",
            history=exchanges("hi", rich, "and now", "then"),
            max_tokens=5,
            recalled=recalled,
        )
        policy = BudgetSettings(context_reserve_tokens=0, pinned_share=0.3)
        fitted = fit(wanted, limit=needs(wanted, make_costs()) + 190, costs=make_costs(), policy=policy)
        assert fitted.turns_dropped
        assert "bey me" in "".join(message.content for message in fitted.messages if message.role == "user")
        assert all("bey me" not in message.content for message in fitted.messages if message.role == "system")


def test_no_block_is_longer_than_it_may_be() -> None:
    rich = " ".join(f"AB-{number}" for number in range(10_000, 10_060)) + "blah " * 100
    for tokens in (0, 1, 25, 33, 50):
        fitted = fitted_in(250, exchanges("hi", rich, "and now"), entity_block_tokens=tokens)
        assert len(fitted.entity_block) <= tokens
        assert bool(fitted.entity_block) == (tokens > 30)


def test_a_tool_call_stays_with_its_results_and_the_answer() -> None:
    loop = (
        Turn(ChatMessage("user", "x" * 20)),
        Turn(ChatMessage("assistant", "", '{"tool_calls": []}')),
        Turn(ChatMessage("tool", "1" * 20)),
        Turn(ChatMessage("tool", "2" * 20)),
        Turn(ChatMessage("assistant", "y" * 20)),
    )
    for room in range(40, 240, 5):
        placements = kept_of(fitted_in(room, (*exchanges("first"), *loop, *exchanges("last"))))
        assert placements[2:7] in {"ddddd", "rrrrr"}, room


def test_a_reply_whose_question_is_missing_goes_first() -> None:
    history = (Turn(ChatMessage("assistant", "welcome")), *exchanges("a" * 50, "b"))
    whole = sum(added(turn.message) for turn in history)
    assert kept_of(fitted_in(whole, history)) == "r" * 5
    assert kept_of(fitted_in(whole - 1, history))[0] == "d"


def test_passages_are_dropped_from_the_least_relevant_end_and_whole() -> None:
    costs = make_costs()
    wanted = Wanted(
        tail=(ChatMessage("user", "q"),), passages=("first", "second", "third"), history=exchanges("h"), max_tokens=1
    )
    limit = costs.count([*head_of(wanted, 2), *wanted.tail]) + 1
    fitted = fit(wanted, limit=limit, costs=costs, policy=POLICY)
    assert fitted.passages_dropped == 1
    assert fitted.messages[0].content == "Context:\nfirst\nsecond"
    assert fitted.turns_dropped == 2
    assert not fitted.is_marked
    assert fitted.total_tokens == limit


def test_history_leaves_the_reserve_for_passages_alone() -> None:
    costs, history = make_costs(), exchanges(*["blah " * 5] * 20)
    wanted = Wanted(tail=(ChatMessage("user", "q"),), history=history, max_tokens=10)
    for reserve, left in ((300, 300), (2000, 100)):  # an eighth of the limit at most
        limit = 2400 if reserve == 300 else 800
        policy = BudgetSettings(context_reserve_tokens=reserve)
        fitted = fit(replace(wanted, history=history * 4), limit=limit, costs=costs, policy=policy)
        assert left <= limit - fitted.total_tokens < left + 80


def test_the_error_names_the_part_its_tokens_and_what_is_allowed() -> None:
    costs = make_costs()
    for part, wanted in (
        ("the query takes 1004", Wanted(tail=(ChatMessage("user", "x" * 1000),), system_prompt="s", max_tokens=50)),
        (
            "the system prompt takes 1004",
            Wanted(tail=(ChatMessage("user", "x"),), system_prompt="s" * 1000, max_tokens=9),
        ),
        ("the reserve for the reply takes 900", Wanted(tail=(ChatMessage("user", "x"),), max_tokens=900)),
    ):
        with pytest.raises(ContextLengthExceededError, match=part) as caught:
            fit(wanted, limit=500, costs=costs, policy=POLICY)
        assert "are left for it" in caught.value.message
        assert caught.value.hint
    with pytest.raises(ContextLengthExceededError, match=r"the template takes 709 tokens"):
        fit(replace(wanted, max_tokens=9), limit=500, costs=costs, policy=POLICY, extra_tokens=700)
    with pytest.raises(ContextLengthExceededError, match="nothing is left for it"):
        fit(replace(wanted, max_tokens=900), limit=5, costs=costs, policy=POLICY)


def test_extra_tokens_are_counted_as_the_templates() -> None:
    costs = make_costs()
    wanted = Wanted(tail=(ChatMessage("user", "q"),), history=exchanges("a", "b"), max_tokens=5)
    fitted = fit(wanted, limit=400, costs=costs, policy=POLICY, extra_tokens=70)
    assert fitted.prompt_tokens == costs.count(fitted.messages) + 70
    assert fitted.sizes.template == 9 + 70
    assert size(wanted, costs=costs, extra_tokens=70) == fitted.total_tokens


def test_the_user_is_told_past_so_many_questions() -> None:
    for num_questions, is_told in ((5, True), (4, False)):
        fitted = fitted_in(100, exchanges(*["blah " * 4] * num_questions), notice_turns=5)
        assert fitted.turns_dropped > 0
        assert (fitted.notice is not None) == is_told
        assert fitted.notice is None or str(fitted.turns_dropped) in fitted.notice
    assert fitted_in(10_000, exchanges(*["blah"] * 40)).notice is None


def test_a_marker_without_a_user_message_to_stand_in_is_said_to_be_missing() -> None:
    costs = make_costs(allows_system_inside=False)
    wanted = Wanted(tail=(ChatMessage("assistant", "so"),), history=exchanges("a" * 90), max_tokens=5)
    fitted = fit(wanted, limit=needs(wanted, costs) + 60, costs=costs, policy=POLICY)
    assert not fitted.is_marked
    assert fitted.messages == wanted.tail
    assert fitted.sizes.marker == 0


def test_what_was_recalled_stands_in_the_first_marker_only_if_it_fits() -> None:
    costs = make_costs()
    wanted = Wanted(
        tail=(ChatMessage("user", "q"),), history=exchanges("a" * 90, "b"), max_tokens=5, recalled="They want 3." * 4
    )
    for room, is_there in ((120, True), (60, False)):
        policy = BudgetSettings(context_reserve_tokens=0)
        fitted = fit(wanted, limit=needs(wanted, costs) + room, costs=costs, policy=policy)
        assert bool(fitted.recalled) == is_there
        assert any(wanted.recalled in message.content for message in fitted.messages) == is_there


def test_every_turn_of_a_long_history_is_counted_once() -> None:
    counted = 0

    def counting(message: ChatMessage) -> int:
        nonlocal counted
        counted += 1
        return added(message)

    costs = replace(make_costs(), cache=CostCache(counting, len))
    history = exchanges(*[f"question {number}" for number in range(1000)])
    wanted = Wanted(tail=(ChatMessage("user", "q"),), history=history, max_tokens=10)
    fitted = fit(wanted, limit=2000, costs=costs, policy=POLICY)
    assert fitted.turns_dropped > 1500
    assert counted <= 1002 + 5  # equal answers are one


def test_a_template_that_adds_more_than_its_sum_gets_less_history() -> None:
    costs = make_costs(is_exact=False)  # one token more for every change of role
    fitted = fitted_in(500, exchanges(*["blah " * 4] * 40), costs)
    assert fitted.prompt_tokens == merging(fitted.messages)
    assert 0 < fitted.placements.count(Placement.RECENT) < 80


def test_a_template_that_adds_less_than_its_sum_has_no_negative_part() -> None:
    costs = replace(make_costs(is_exact=False), count=lambda messages: 12)
    wanted = Wanted(tail=(ChatMessage("user", "q"),), system_prompt="abc", history=exchanges("a"), max_tokens=5)
    fitted = fit(wanted, limit=400, costs=costs, policy=POLICY)
    check_sizes(wanted, fitted, 400)
    assert fitted.total_tokens == 17


def test_of_many_pins_that_do_not_fit_the_newest_are_named() -> None:
    history = [Turn(ChatMessage("user", f"AB-{number} " + "x" * 200), is_pinned=True) for number in range(1000, 1020)]
    fitted = fitted_in(130, tuple(history), entity_block_tokens=40)
    assert fitted.turns_dropped == 20
    assert fitted.entity_block == "Context from earlier: AB-1019; AB-1018"


def test_a_history_that_is_smaller_than_its_marker_is_kept() -> None:
    history = exchanges("a" * 13, answer="b" * 13)
    fitted = fitted_in(40, history, context_reserve_tokens=300)
    assert kept_of(fitted) == "pp"
    assert fitted.sizes.marker == 0
    assert not fitted.was_truncated


def test_without_a_history_nothing_is_missing_however_little_room_there_is() -> None:
    fitted = fitted_in(0, (), context_reserve_tokens=300)
    assert fitted.is_marked
    assert not fitted.was_truncated
