"""`pratique budget fit | explain`: parse, call, render.

Exit codes of explain: 0 everything fits; 1 something is left out, or the request is refused; 2 wrong usage or a file
that holds no request; 3 the tokenizer cannot be read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
import typer

if TYPE_CHECKING:
    from pratique.inference.context.explain import Explanation
    from pratique.inference.context.fitlog import LogReader, Proposal, Survey
    from pratique.inference.engines.interface import Engine
    from pratique.inference.engines.tokenizer import TokenizerOnly
    from pratique.inference.settings import InferenceSettings

__all__ = ["app"]

app = typer.Typer(help="The context budget: fit it to a log, explain what it did.", no_args_is_help=True)

_Tokenizer = Annotated[
    Path | None,
    typer.Option(help="A model's folder, for its tokenizer. Default: the configured model, or the small one."),
]
_Config = Annotated[Path | None, typer.Option(help="TOML file with a table \\[inference].")]
_Length = Annotated[int | None, typer.Option(help="Tokens of prompt and reply together. Default: as configured.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_BAR = 30
_FIGURES = ((50, "median"), (95, "p95"), (99, "p99"))


@app.command("fit")
def fit_log(
    log: Annotated[Path, typer.Argument(help="JSON lines, plain or gzip; - is standard input.", metavar="LOG")],
    tokenizer: _Tokenizer = None,
    max_model_len: _Length = None,
    max_bad: Annotated[
        float, typer.Option(help="Share of the lines that may be no conversation.", min=0, max=1)
    ] = 0.01,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Measure a log of conversations and propose the budget's reserves, as TOML to put into a configuration.

    A line is {"system": …, "context": […], "messages": […]} or an entry of an OpenAI chat log.
    """
    from pratique.inference.context.fitlog import LogReader, Survey, propose
    from pratique.inference.logfile import read_lines

    settings = _settings(config, max_model_len)
    model = _load(tokenizer, settings)
    survey = Survey(model.costs.message, model.count)
    reader = LogReader(survey)
    reader.read(read_lines(log))
    for line in reader.bad:
        print(f"line {line.number}: {line.why}", file=sys.stderr)
    reader.verify(max_bad_share=max_bad)
    frame = model.costs.frame(has_system=bool(survey.parts["system"].number))
    proposal = propose(survey, max_model_len=settings.max_model_len, frame_tokens=frame)
    if as_json:
        _print_json(_log_fields(reader, proposal, settings.max_model_len))
    else:
        _print_proposal(reader, proposal, settings.max_model_len)


@app.command("explain")
def explain_request(
    file: Annotated[
        Path, typer.Argument(help="A body of /invocations or of the OpenAI API; - is standard input.", metavar="FILE")
    ],
    tokenizer: _Tokenizer = None,
    max_model_len: _Length = None,
    limit: Annotated[
        int | None, typer.Option(help="Allow only so many tokens, as while the breaker is open.", min=1)
    ] = None,
    show_prompt: Annotated[bool, typer.Option("--show-prompt", help="Also print the prompt's messages.")] = False,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Say where every token of a request's prompt goes, what is left out, and what would make it fit.

    Exit codes: 0 everything fits; 1 something is left out, or the request is refused; 2 wrong usage or no request;
    3 the tokenizer cannot be read.
    """
    from pratique.inference.api.request_file import parse_request
    from pratique.inference.context.explain import explain
    from pratique.inference.context.fitter import Fitter
    from pratique.inference.context.recall.relevance import RelevanceRecall
    from pratique.inference.logfile import read_whole

    settings = _settings(config, max_model_len)
    policy = settings.budget
    allowed = min(limit or settings.max_model_len, settings.max_model_len)
    # As the server has it: a small context is not all reserve.
    reserve = min(policy.output_reserve_tokens, allowed // 2)
    asked = parse_request(read_whole(file), default_max_tokens=max(reserve, 1))
    model = _load(tokenizer, settings)
    # A summary is the running engine's work; what is near the query can be told here.
    recall = RelevanceRecall(model.count, max_tokens=policy.recall_tokens) if policy.recall == "relevance" else None
    fitter = Fitter(cast("Engine", model), policy, recall=recall)
    explanation = explain(asked, fitter, limit=allowed, policy=policy)
    if as_json:
        fields = msgspec.to_builtins(explanation)
        _print_json(fields if show_prompt else {name: fields[name] for name in fields if name != "messages"})
    else:
        _print_explanation(explanation, show_prompt=show_prompt)
    if policy.recall == "summary":
        print("recall = summary: summaries are made by the running server, none is shown here", file=sys.stderr)
    if explanation.verdict != "whole":
        raise typer.Exit(1)


def _settings(config: Path | None, max_model_len: int | None) -> InferenceSettings:
    from pratique.core.settings import load_settings
    from pratique.inference.settings import InferenceSettings

    overrides = {"max_model_len": max_model_len}
    return load_settings(InferenceSettings, part="inference", file=config, environment=os.environ, overrides=overrides)


def _load(given: Path | None, settings: InferenceSettings) -> TokenizerOnly:
    from pratique.core.errors import CallerError
    from pratique.inference.artifacts.store import SMALL_MODEL, default_model_root, is_imported
    from pratique.inference.engines.tokenizer import load_tokenizer

    root = settings.model_root or default_model_root(os.environ)
    folder = given or (settings.models[0].folder if settings.models else settings.model)
    if folder is None and not is_imported(root):
        raise CallerError(
            f"Nothing to count tokens with: no --tokenizer was given, and {root} has no small model.",
            hint="Name a model's folder with --tokenizer, or run `pratique model import`.",
        )
    return load_tokenizer(folder or root / SMALL_MODEL)


def _log_fields(reader: LogReader, proposal: Proposal, max_model_len: int) -> dict[str, Any]:
    return {
        "num_conversations": reader.survey.num_conversations,
        "num_bad_lines": reader.num_bad,
        "max_model_len": max_model_len,
        "parts": {part: _figures(reader.survey, part) for part in reader.survey.parts},
        "proposal": msgspec.to_builtins(proposal),
    }


def _figures(survey: Survey, part: str) -> dict[str, int]:
    sizes = survey.parts[part]
    return {"number": sizes.number} | {name: sizes.percentile(percent) for percent, name in _FIGURES}


def _print_proposal(reader: LogReader, proposal: Proposal, max_model_len: int) -> None:
    """Print TOML: the figures as its comments, so that all of it can go into a configuration."""
    survey = reader.survey
    print(f"# Tokens in {survey.num_conversations} conversations; {reader.num_bad} lines were none.")
    print(f"# {'part':8} {'number':>9} " + " ".join(f"{name:>7}" for _, name in _FIGURES))
    for part in survey.parts:
        figures = _figures(survey, part)
        print(f"# {part:8} {figures['number']:9} " + " ".join(f"{figures[name]:7}" for _, name in _FIGURES))
    print("# A turn is a question with its answer.")
    print(f"# Turns of the median size in {max_model_len} tokens: {proposal.turns_at_medians} beside the medians,")
    print(f"# {proposal.turns_at_reserves} beside these reserves.")
    print("[inference.budget]")
    capped = f", at most an eighth of {max_model_len}" if proposal.is_context_capped else ""
    if proposal.context_reserve_tokens is not None:
        print(f"# The 95th percentile of the retrieved context, rounded up to 50{capped}.")
        print(f"context_reserve_tokens = {proposal.context_reserve_tokens}")
    if proposal.output_reserve_tokens is not None:
        print("# The 95th percentile of the replies, rounded up to 50; for requests without max_tokens.")
        print(f"output_reserve_tokens = {proposal.output_reserve_tokens}")


def _print_explanation(explanation: Explanation, *, show_prompt: bool) -> None:
    _print_sizes(explanation)
    _print_history(explanation)
    for marker in explanation.markers:
        print("\nput in where something is missing:")
        print("\n".join(f"  {line}" for line in marker.splitlines()))
    if not explanation.is_marked:
        print("\nthere was no room to mark every place where something is missing")
    if explanation.notice:
        print(f"\nthe user is told: {explanation.notice}")
    if explanation.reason:
        print(f"\nrefused: {explanation.reason}")
    for number, line in enumerate(explanation.advice):
        print(f"{'' if number else chr(10)}{line}")
    for message in explanation.messages if show_prompt else ():
        print(f"\n--- {message['role']}\n{message['content']}")


def _print_sizes(explanation: Explanation) -> None:
    sizes, limit = explanation.sizes, explanation.limit
    rows = [*((part, tokens) for part, tokens in sizes.items() if tokens), ("total", explanation.total_tokens)]
    scale = max(limit, explanation.total_tokens)
    print(f"{explanation.verdict}: {explanation.total_tokens} of {limit} tokens")
    for part, tokens in rows:
        print(f"  {part:9} {tokens:7}  {'█' * round(_BAR * tokens / scale)}")
    if explanation.total_tokens <= limit:
        print(f"  {'not used':9} {limit - explanation.total_tokens:7}")


def _print_history(explanation: Explanation) -> None:
    if explanation.turns:
        print("\nhistory, oldest first:")
    for turn in explanation.turns:
        named = f"  ({', '.join(turn.entities)})" if turn.entities else ""
        kept = f"{turn.kept}!" if turn.is_pinned else turn.kept
        print(f"  {turn.number:4} {turn.role:9} {kept:8} {turn.tokens:6}  {turn.beginning}{named}")
    for passage in explanation.passages:
        print(f"  passage {passage.number} {'kept' if passage.is_kept else 'dropped'}  {passage.beginning}")


def _print_json(fields: dict[str, Any]) -> None:
    print(msgspec.json.encode({"schema_version": 1, **fields}).decode())
