"""The `pratique` command: assembles the groups, turns errors into text and exit codes.

Exit codes: 0 yes; 1 refused, or the answer is no; 2 wrong usage; 3 the environment failed, or it could not be decided;
130 interrupted. Data goes to standard output, everything for people to standard error.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from typing import Annotated, Any, ClassVar

import typer

from pratique.cli._lazy import CONTEXT_SETTINGS, LazyGroup, Target
from pratique.core.errors import PratiqueError

__all__ = ["app", "main"]

_EXIT_UNDECIDED = 3
_EXIT_INTERRUPTED = 130


class _ServeGroup(LazyGroup):
    targets: ClassVar[dict[str, Target]] = {
        "inference": Target(
            help="Serve a model: ready means warm.",
            module="pratique.cli.serve_inference",
            attribute="inference",
            extra="inference",
        ),
        "orchestrator": Target(
            help="Serve the chat: one replica of the orchestrator.",
            module="pratique.cli.serve_orchestrator",
            attribute="orchestrator",
            extra="orchestrator",
        ),
        "sagemaker": Target(
            help="Serve SageMaker's runtime API before model servers.",
            module="pratique.cli.serve_sagemaker",
            attribute="sagemaker",
            extra="inference",
        ),
    }


class _RootGroup(LazyGroup):
    targets: ClassVar[dict[str, Target]] = {
        "up": Target(
            help="Run the whole chat on this machine.", module="pratique.cli.stack", attribute="up", extra="fleet"
        ),
        "down": Target(help="Stop what `up` started.", module="pratique.cli.stack", attribute="down", extra="fleet"),
        "status": Target(
            help="Show every service of the running stack.",
            module="pratique.cli.stack",
            attribute="status",
            extra="fleet",
        ),
        "logs": Target(
            help="Show what the services logged.", module="pratique.cli.stack", attribute="logs", extra="fleet"
        ),
        "chat": Target(help="Chat in the terminal.", module="pratique.cli.chat", attribute="chat", extra="client"),
        "ledger": Target(
            help="Verify, show and export the ledger of releases.",
            module="pratique.cli.ledger",
            attribute="app",
            extra="release",
        ),
        "model": Target(
            help="Import, list, verify and release models.",
            module="pratique.cli.model",
            attribute="app",
            extra="inference,release",
        ),
        "warmup": Target(
            help="Warmup manifests: derive, check, time.",
            module="pratique.cli.warmup",
            attribute="app",
            extra="inference",
        ),
        "budget": Target(
            help="Fit the context budget to a log; explain where a prompt's tokens went.",
            module="pratique.cli.budget",
            attribute="app",
            extra="inference",
        ),
        "advisories": Target(
            help="Known vulnerabilities, offline: import them, look them up.",
            module="pratique.cli.advisories",
            attribute="app",
            extra="release",
        ),
        "audit": Target(
            help="Prove a digest link by link: signature, commit, contents, decisions, releases.",
            module="pratique.cli.audit",
            attribute="audit",
            extra="release",
        ),
        "triage": Target(
            help="Which images a vulnerability or a package concerns, where they run, since when.",
            module="pratique.cli.triage",
            attribute="triage",
            extra="release",
        ),
        "feed": Target(
            help="Watch feeds of advisories, and tell what news mean here.",
            module="pratique.cli.feed",
            attribute="app",
            extra="release",
        ),
        "inventory": Target(
            help="Keep what images are made of and where they run, for triage.",
            module="pratique.cli.inventory",
            attribute="app",
            extra="release",
        ),
        "evidence": Target(
            help="Collect what there is to say about an image, show it, sign it.",
            module="pratique.cli.evidence",
            attribute="app",
            extra="release",
        ),
        "eval": Target(
            help="Evaluate a model that is served, with a golden set.",
            module="pratique.cli.evaluation",
            attribute="app",
            extra="release",
        ),
        "build": Target(
            help="Build images of a commit, the same bits twice.",
            module="pratique.cli.build",
            attribute="app",
            extra="release",
        ),
        "lock": Target(
            help="Hash locks: everything exact, everything with a hash.",
            module="pratique.cli.lock",
            attribute="app",
            extra="release",
        ),
        "mirror": Target(
            help="A package index that serves only what is approved.",
            module="pratique.cli.mirror",
            attribute="app",
            extra="release",
        ),
        "secrets": Target(
            help="Find secrets in files, staged changes and history.", module="pratique.cli.secrets", attribute="app"
        ),
        "keys": Target(
            help="Create, list, rotate and revoke API keys.",
            module="pratique.cli.apikey",
            attribute="app",
            extra="orchestrator",
        ),
        "retrieval": Target(
            help="Build, search and verify an index of passages.",
            module="pratique.cli.retrieval",
            attribute="app",
            extra="retrieval",
        ),
        "apikey": Target(
            help="The older name of `keys`.",
            module="pratique.cli.apikey",
            attribute="app",
            extra="orchestrator",
            hidden=True,
        ),
        "conversations": Target(
            help="Export, erase and purge conversations; make their table.",
            module="pratique.cli.conversations",
            attribute="app",
            extra="orchestrator",
        ),
        "registry": Target(
            help="The front before a plain OCI registry.",
            module="pratique.cli.registry",
            attribute="app",
            extra="release",
        ),
        "testkit": Target(
            help="The test kit's servers: what is here, what is kept running.",
            module="pratique.cli.testkit",
            attribute="app",
            extra="testkit",
        ),
        "sign": Target(
            help="Sign an image, and lay the signature beside it.",
            module="pratique.cli.attest",
            attribute="sign",
            extra="release",
        ),
        "attest": Target(
            help="Sign a statement about an image, and lay it beside the image.",
            module="pratique.cli.attest",
            attribute="attest",
            extra="release",
        ),
        "verify": Target(
            help="Verify what lies beside an image, and whose signatures are there.",
            module="pratique.cli.verify",
            attribute="verify",
            extra="release",
        ),
        "gate": Target(
            help="Decide whether an artifact may go somewhere.",
            module="pratique.cli.gate",
            attribute="gate",
            extra="release",
        ),
        "approve": Target(
            help="Approve of an artifact as it is known now.",
            module="pratique.cli.approve",
            attribute="approve",
            extra="release",
        ),
        "review": Target(
            help="Review the changed dependencies of an artifact.",
            module="pratique.cli.approve",
            attribute="review",
            extra="release",
        ),
        "revoke": Target(
            help="Record that an artifact, a key or a statement is not to be trusted.",
            module="pratique.cli.gate",
            attribute="revoke",
            extra="release",
        ),
        "policy": Target(
            help="Check and show the policy of the release gate.",
            module="pratique.cli.policy",
            attribute="app",
            extra="release",
        ),
        "signing-key": Target(
            help="Make a key that signs releases; show its public half.",
            module="pratique.cli.signing_key",
            attribute="app",
            extra="release",
        ),
        "verify-bundle": Target(
            help="Verify a Sigstore bundle against an artifact and its signer.",
            module="pratique.cli.verify_bundle",
            attribute="verify_bundle",
            extra="release",
        ),
        "promote": Target(
            help="Bring a release to all traffic: gate, canary, promoted; or end one that was interrupted.",
            module="pratique.cli.promote",
            attribute="promote",
            extra="release",
        ),
        "rollback": Target(
            help="Go back to the release before, by its digest.",
            module="pratique.cli.promote",
            attribute="rollback",
            extra="release",
        ),
        "canary": Target(
            help="Judge measurements of a new release beside the old one.",
            module="pratique.cli.canary",
            attribute="app",
            extra="release",
        ),
    }

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer keeps these types private
        """Run the called command; an error that was raised on purpose becomes two lines and its exit code."""
        try:
            return super().invoke(ctx)
        except PratiqueError as error:
            if ctx.params.get("verbose"):
                raise
            _render(error.message, error.hint)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(_EXIT_INTERRUPTED) from error


app = typer.Typer(
    name="pratique",
    cls=_RootGroup,
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT_SETTINGS,
)
app.add_typer(
    typer.Typer(cls=_ServeGroup, no_args_is_help=True, help="Serve one part, as the stack does.", add_completion=False),
    name="serve",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"pratique {installed_version('pratique')}")
        raise typer.Exit


@app.callback()
def _root(
    verbose: Annotated[bool, typer.Option("--verbose", help="On an error, show where it was raised.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    """A self-hosted LLM chat platform."""
    del verbose, version  # read by _RootGroup.invoke; handled by its callback


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the entry point of the installed `pratique`."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        app(given, prog_name="pratique")
    except PratiqueError:
        raise
    except Exception as error:  # the process ends here: whatever was not foreseen still gets the code for "undecided"
        if "--verbose" in given:
            raise
        _render(
            f"unexpected {type(error).__name__}: {error}",
            "This is a bug. `pratique --verbose …` shows where it happened.",
        )
        sys.exit(_EXIT_UNDECIDED)


def _render(message: str, hint: str | None) -> None:
    typer.echo(f"error: {_seen(message)}", err=True)
    if hint:
        typer.echo(f"hint: {_seen(hint)}", err=True)


def _seen(text: str) -> str:
    """Return text whose every character is seen: messages quote files, registries and evidence of others."""
    return "".join(one if one.isprintable() or one in "\n\t" else f"\\u{{{ord(one):x}}}" for one in text)


if __name__ == "__main__":
    main()
