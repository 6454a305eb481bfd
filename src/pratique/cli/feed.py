"""`pratique feed watch`: parse, call, render."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pratique.cli._signing import Config, DryRun, release_settings, signer_by
from pratique.release.plain import plain

if TYPE_CHECKING:
    from pratique.release.settings import ReleaseSettings
    from pratique.release.triage.alerts import AlertSink, FeedAlert
    from pratique.release.triage.feed import Round, Watcher

__all__ = ["app"]

app = typer.Typer(help="Watch feeds of advisories, and tell what news mean here.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Watch feeds of advisories, and tell what news mean here."""


@app.command("watch")
def watch(
    sources: Annotated[
        list[str], typer.Argument(help="A folder of OSV records, an all.zip, or its address.", metavar="SOURCE…")
    ],
    once: Annotated[bool, typer.Option("--once", help="One round, and end.")] = False,
    index: Annotated[Path | None, typer.Option(help="The index's file. [index of the settings]")] = None,
    state: Annotated[Path | None, typer.Option(help="What was seen and told. [feed_state of the settings]")] = None,
    webhook: Annotated[str | None, typer.Option(help="Where alerts are posted. [webhook of the settings]")] = None,
    to_ledger: Annotated[bool, typer.Option("--ledger", help="Write alerts into the ledger, too.")] = False,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Alerts as JSON, one object a line.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Find new and changed advisories, and tell which images they concern, where and since when.

    Exit code of --once: 0: all news were read and told; 3: not all.
    """
    settings = release_settings(config)
    with ExitStack() as stack:
        sinks = [_lines(as_json=as_json)]
        if not dry_run:
            sinks += _others(stack, settings, webhook or settings.triage.webhook, to_ledger=to_ledger)
        watcher = _watcher(stack, settings, tuple(sources), sinks, index=index, state=state, is_dry_run=dry_run)
        if once or dry_run:
            result = watcher.once()
            _report(result)
            if result.exit_code:
                raise typer.Exit(result.exit_code)
            return
        _loop(watcher, settings.triage.poll_seconds)


def _watcher(
    stack: ExitStack,
    settings: ReleaseSettings,
    sources: tuple[str, ...],
    sinks: list[AlertSink],
    *,
    index: Path | None,
    state: Path | None,
    is_dry_run: bool,
) -> Watcher:
    from pratique.core.clock import SystemClock
    from pratique.release.triage.feed import Watcher
    from pratique.release.triage.feed_state import FeedState
    from pratique.release.triage.index import TriageIndex

    kept = stack.enter_context(FeedState(state or settings.triage.feed_state, is_dry_run=is_dry_run))
    where = index or settings.triage.index
    return Watcher(sources, kept, lambda: TriageIndex(where), sinks, settings.triage, SystemClock())


def _lines(*, as_json: bool) -> AlertSink:
    from pratique.release.triage.alerts import LineSink

    def write(line: str) -> None:
        print(line, flush=True)

    return LineSink(write) if as_json else LineSink(write, _line)


def _others(stack: ExitStack, settings: ReleaseSettings, webhook: str | None, *, to_ledger: bool) -> list[AlertSink]:
    from pratique.release.triage.alerts import LedgerSink, WebhookSink

    sinks: list[AlertSink] = []
    if webhook:
        sinks.append(WebhookSink(webhook, settings.triage.webhook_seconds, settings.triage.webhook_tries))
    if to_ledger:
        from pratique.cli._release import user
        from pratique.release.ledger.build import open_ledger
        from pratique.release.signing.build import open_verifier

        signer = signer_by()(settings)
        ledger = stack.enter_context(open_ledger(settings.ledger, open_verifier(settings.signing), signer=signer))
        sinks.append(LedgerSink(ledger, user()))
    return sinks


def _loop(watcher: Watcher, seconds: float) -> None:
    from pratique.core.errors import EnvironmentFaultError

    while True:
        try:
            _report(watcher.once())
        except EnvironmentFaultError as error:  # it may be there again in the next round
            print(f"this round failed: {error.message}", file=sys.stderr, flush=True)
        time.sleep(seconds)


def _report(result: Round) -> None:
    for problem in result.problems:
        print(plain(problem), file=sys.stderr)
    told = f"{result.num_news} new or changed advisories, {result.num_alerts} of them concern images here"
    waiting = f"; {result.num_waiting} alerts wait to be taken" if result.num_waiting else ""
    print(told + waiting, file=sys.stderr, flush=True)


def _line(alert: FeedAlert) -> str:
    answer = alert.answer
    packages = ", ".join(one.package for one in answer.components)
    places = ", ".join(
        f"{one.digest} in {place.environment} since {place.since.isoformat()}"
        for one in answer.running
        for place in one.places
    )
    severity = answer.advisories[0].severity if answer.advisories else "unknown"
    running = f"; RUNS: {places}" if places else ""
    return plain(f"{alert.advisory} ({alert.news}, {severity}): {answer.num_images} images by {packages}{running}")
