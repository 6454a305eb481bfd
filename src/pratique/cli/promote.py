"""`pratique promote` and `pratique rollback`: parse, call, render.

Exit codes: 0 done; 1 refused, or the canary failed; 2 wrong usage; 3 could not be decided, or something failed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.cli._signing import (
    Config,
    DryRun,
    IdentityTokenFile,
    Json,
    Key,
    KmsKey,
    PasswordFile,
    Repository,
    TrustConfig,
    release_settings,
    signer_by,
)
from pratique.core.errors import CallerError
from pratique.release.plain import plain

if TYPE_CHECKING:
    from pratique.release.ledger.interface import Ledger
    from pratique.release.promotion.desk import Desk, Outcome
    from pratique.release.promotion.interface import AlertSink
    from pratique.release.promotion.settings import PromotionSettings
    from pratique.release.values import Subject

__all__ = ["promote", "rollback"]

_Environment = Annotated[
    str, typer.Option(help="Where to: a table in [release.promotion.targets], .ecs or .sagemaker.")
]
_Policy = Annotated[Path | None, typer.Option(help="The gate's policy. [promotion.toml]")]
_PolicyDigest = Annotated[str | None, typer.Option(help="The SHA-256 that the policy must have.")]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What both commands are told."""

    environment: str
    config: Path | None
    policy: Path | None
    policy_digest: str | None
    flags: dict[str, object]
    authors: tuple[str, ...] = ()
    dry_run: bool = False


def promote(
    digest: Annotated[str | None, typer.Argument(metavar="[DIGEST]", help="Of the release: sha256:….")] = None,
    environment: _Environment = "production",
    repository: Repository = "",
    emergency: Annotated[
        bool, typer.Option("--emergency", help="A canary of emergency_seconds; the policy may want more.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="End a promotion or rollback whose process is gone.")
    ] = False,
    author: Annotated[
        list[str] | None, typer.Option(help="E-mail address of who wrote the source. May be repeated.")
    ] = None,
    policy: _Policy = None,
    policy_digest: _PolicyDigest = None,
    key: Key = None,
    password_file: PasswordFile = None,
    kms_key: KmsKey = None,
    identity_token_file: IdentityTokenFile = None,
    trust_config: TrustConfig = None,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Bring a release to all traffic of an environment: the gate, a canary, the gate again, promoted.

    A canary that fails or says nothing gives all traffic back at once. --resume ends what a killed process left:
    without a verdict it is aborted, with one it goes on.
    """
    from pratique.release.promotion import promote as room

    if resume == (digest is not None) or (digest is not None and not repository):
        raise CallerError("expected a digest and --repository, or --resume alone")
    flags = {"key_file": key, "password_file": password_file, "kms_key": kms_key}
    flags |= {"identity_token_file": identity_token_file, "trust_config_file": trust_config}
    asked = _Asked(environment, config, policy, policy_digest, dict(flags), tuple(author or ()), dry_run)
    with _desk(asked) as desk:
        if dry_run:
            _say_promotion(desk, digest, repository, seconds=_seconds(desk.settings, emergency=emergency))
            return
        if digest is None:
            _print(desk, room.resume(desk), as_json=as_json)
            return
        seconds = _seconds(desk.settings, emergency=emergency)
        _print(desk, room.promote(desk, _subject(digest, repository), canary_seconds=seconds), as_json=as_json)


def rollback(
    reason: Annotated[str, typer.Option(help="Why, for the ledger and the alert.")],
    environment: _Environment = "production",
    policy: _Policy = None,
    policy_digest: _PolicyDigest = None,
    key: Key = None,
    password_file: PasswordFile = None,
    kms_key: KmsKey = None,
    identity_token_file: IdentityTokenFile = None,
    trust_config: TrustConfig = None,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Go back to the release before: found in the ledger, verified again, deployed by its digest, and checked.

    One that is revoked is passed over for the one before it. A canary that is running is ended, and no more is done.
    """
    from pratique.release.promotion.rollback import find_previous, roll_back

    flags = {"key_file": key, "password_file": password_file, "kms_key": kms_key}
    flags |= {"identity_token_file": identity_token_file, "trust_config_file": trust_config}
    with _desk(_Asked(environment, config, policy, policy_digest, dict(flags), dry_run=dry_run)) as desk:
        if not dry_run:
            _print(desk, roll_back(desk, reason=reason), as_json=as_json)
            return
        running = desk.target.deployment()
        if running.candidate is not None:
            print(f"would end the canary of {running.candidate}; {running.stable} stays", file=sys.stderr)
            return
        past, notes = find_previous(desk, desk.book(), running)
        for note in notes:
            print(plain(note), file=sys.stderr)
        print(f"would go back from {running.stable} to {past.digest}", file=sys.stderr)


def _say_promotion(desk: Desk, digest: str | None, repository: str, *, seconds: float) -> None:
    running, rollout = desk.target.deployment(), desk.book().history().open
    print(f"'{desk.environment}' runs {running.stable}, and as a canary {running.candidate}", file=sys.stderr)
    if rollout is not None:
        print(f"not finished: the {rollout.action} {rollout.id} of {rollout.digest}", file=sys.stderr)
    if digest is None:
        return
    desk.gatekeeper.admit(_subject(digest, repository))
    print(
        f"the gate admits {digest}: would run it with {desk.settings.share:.1%} of the traffic for {seconds:g} s",
        file=sys.stderr,
    )


@contextlib.contextmanager
def _desk(asked: _Asked) -> Iterator[Desk]:
    from pratique.cli._release import opened, user
    from pratique.core.events import configure_events
    from pratique.release.promotion.desk import Desk
    from pratique.release.promotion.gatekeeper import PolicyGatekeeper
    from pratique.release.promotion.interface import SystemPace
    from pratique.release.promotion.targets import open_target

    configure_events(service="release")
    settings = release_settings(asked.config)
    target = open_target(settings.promotion, asked.environment)
    with opened(asked.config, None if asked.dry_run else signer_by(**asked.flags)) as rooms:
        gate = rooms.gate(asked.policy, asked.policy_digest)
        desk = None if asked.dry_run else rooms.desk(gate.policy)
        yield Desk(
            environment=asked.environment,
            actor=user(),
            target=target,
            ledger=rooms.ledger,
            gatekeeper=PolicyGatekeeper(gate, desk, asked.environment, user(), frozenset(asked.authors)),
            alerts=_alerts(settings.promotion, rooms.ledger, user()),
            pace=SystemPace(),
            settings=settings.promotion,
        )


def _alerts(settings: PromotionSettings, ledger: Ledger, actor: str) -> tuple[AlertSink, ...]:
    from pratique.release.promotion.alerts import LedgerAlerts, LogAlerts, WebhookAlerts

    hooks = (WebhookAlerts(settings.webhook, settings.webhook_seconds),) if settings.webhook else ()
    return (LogAlerts(), LedgerAlerts(ledger, actor), *hooks)


def _seconds(settings: PromotionSettings, *, emergency: bool) -> float:
    return settings.emergency_seconds if emergency else settings.canary_seconds


def _subject(digest: str, repository: str) -> Subject:
    from pratique.release.values import Subject, parse_digest

    return Subject(repository, parse_digest(digest))


def _print(desk: Desk, outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        told = {
            "schema_version": 1,
            "result": outcome.result,
            "environment": desk.environment,
            "repository": outcome.subject.repository,
            "digest": outcome.subject.digest,
            "rollout": outcome.rollout,
            "seconds": round(outcome.seconds, 3),
            "notes": outcome.notes,
        }
        print(msgspec.json.encode(told).decode())
        return
    for note in outcome.notes:
        print(plain(note), file=sys.stderr)
    print(f"{outcome.result}: '{desk.environment}' runs {outcome.subject.digest} ({outcome.seconds:.1f} s)")
