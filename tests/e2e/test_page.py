"""A person with a browser: the page that `make up` ends in."""

from __future__ import annotations

import os
import random
import signal
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page
    from tests.e2e.conftest import Stack

pytestmark = pytest.mark.e2e


GO_ON_WITHIN_SECONDS = 2.0
RECORD_GROWTH = """() => {
    const bodies = () => [...document.querySelectorAll('[data-role="assistant"] .body')];
    const lengthOf = () => bodies().at(-1)?.textContent.length ?? 0;
    let longest = lengthOf();
    window.growth = [];
    const grown = () => {
        if (lengthOf() > longest) { longest = lengthOf(); window.growth.push(performance.now()); }
    };
    new MutationObserver(grown).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""
"""Note in the page when the shown reply grew: what a person sees of a pause."""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    # What our own headers forbid the page would show only as something that is missing.
    opened.on("console", lambda said: problems.append(said.text) if "Policy" in said.text else None)
    yield opened
    context.close()
    assert problems == []


def say(page: Page, text: str) -> None:
    page.get_by_test_id("composer").fill(text)
    page.get_by_test_id("composer").press("Enter")


def last_reply_is(page: Page, status: str, *, timeout_seconds: float = 60) -> str:
    """Wait until the last assistant message has that status; return its text."""
    reply = page.locator('[data-testid="message"][data-role="assistant"]').last
    page.wait_for_function(
        """status => {
            const replies = document.querySelectorAll('[data-testid="message"][data-role="assistant"]');
            return replies.length > 0 && replies[replies.length - 1].dataset.status === status;
        }""",
        arg=status,
        timeout=timeout_seconds * 1000,
    )
    return reply.locator(".body").inner_text()


def longest_pause_seconds(page: Page, since: float) -> float:
    """Return the longest time after `since` (the page's own clock) in which the reply did not grow."""
    grown: list[float] = page.evaluate("window.growth")
    moments = [since, *(at for at in grown if at > since)]
    return max((later - sooner for sooner, later in pairwise(moments)), default=0.0) / 1000


def stored_reply(page: Page) -> str:
    """The text of the newest conversation's last assistant turn, as the durable store has it."""
    text: str = page.evaluate(
        """async () => {
            const list = await (await fetch('/api/conversations')).json();
            const id = list.conversations[0].conversation_id;
            const conversation = await (await fetch('/api/conversations/' + id)).json();
            return conversation.turns.filter(turn => turn.role === 'assistant').at(-1).text;
        }"""
    )
    return text


@pytest.mark.vllm
def test_the_capital_of_france_is_paris(page: Page, real_stack: Stack, results: Path) -> None:
    page.goto(real_stack.url)
    say(page, "What is the capital of France?")
    assert "Paris" in last_reply_is(page, "complete")
    page.screenshot(path=results / "chat.png")


def test_nothing_comes_from_outside(page: Page, simulated_stack: Stack) -> None:
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto(simulated_stack.url)
    page.get_by_test_id("composer").wait_for()
    assert hosts == {simulated_stack.url.removeprefix("http://")}


def test_the_catalogues_passages_stand_below_a_reply_that_they_fit(page: Page, simulated_stack: Stack) -> None:
    page.goto(simulated_stack.url)
    say(page, "Hello!")
    last_reply_is(page, "complete")
    assert page.get_by_test_id("sources").count() == 0
    say(page, "灯台の漫画はありますか?")
    last_reply_is(page, "complete")
    link = page.get_by_test_id("sources").get_by_role("link").first
    assert "潮見坂の灯台守" in link.inner_text()
    assert link.get_attribute("href") == "https://manga.example/shiomizaka"


def test_stop_keeps_what_was_said_and_retry_answers_again(page: Page, simulated_stack: Stack) -> None:
    page.goto(simulated_stack.url)
    say(page, "Tell me a long story, please.")
    page.locator('[data-testid="message"][data-role="assistant"] .body').last.wait_for()
    page.get_by_test_id("stop").click()
    last_reply_is(page, "partial")
    page.get_by_test_id("retry").last.click()
    assert last_reply_is(page, "complete").split()


def test_a_reload_in_the_middle_of_a_reply_goes_on(page: Page, simulated_stack: Stack) -> None:
    page.goto(simulated_stack.url)
    say(page, "Tell me another long story.")
    page.wait_for_url("**/*conv_*")
    page.reload()
    shown = last_reply_is(page, "complete")
    assert shown.split() == stored_reply(page).split()


@pytest.mark.parametrize("seed", range(20))
def test_the_page_survives_the_death_of_its_orchestrator(page: Page, simulated_stack: Stack, seed: int) -> None:
    simulated_stack.wait_until_ready("orchestrator-0", "orchestrator-1")
    page.goto(simulated_stack.url)
    replica = page.evaluate("async () => (await (await fetch('/api/session')).json()).replica")
    pid = simulated_stack.service(replica)["pid"]
    say(page, f"Count for me, slowly, number {seed}.")
    page.locator('[data-testid="message"][data-role="assistant"]').last.wait_for()
    page.evaluate(RECORD_GROWTH)
    page.wait_for_timeout(random.Random(seed).uniform(50, 1200))  # noqa: S311 - a moment to die at, no secret
    killed_at = page.evaluate("performance.now()")
    os.kill(pid, signal.SIGKILL)
    shown = last_reply_is(page, "complete")
    assert shown.split() == stored_reply(page).split()
    assert longest_pause_seconds(page, killed_at) <= GO_ON_WITHIN_SECONDS
