"""`pratique warmup derive | run | check | schema`: parse, call, render."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pratique.inference.warmup.derive import Derivation
    from pratique.inference.warmup.log import TrafficLog
    from pratique.inference.warmup.probe import Measured

__all__ = ["app"]

app = typer.Typer(
    help="Warmup manifests: make one from a traffic log, check it, time its shapes.", no_args_is_help=True
)

_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_MaxModelLen = Annotated[
    int | None, typer.Option(min=1, help="Tokens of prompt and reply together that the model takes.")
]
_TOO_SLOW = 1
_ANY_LENGTH = 1 << 30


@app.command("derive")
def derive_command(
    log: Annotated[Path, typer.Argument(help="JSON lines, plain or .gz; - is standard input.")],
    out: Annotated[Path | None, typer.Option(help="Write the manifest there, not to standard output.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture of the clusters there, as SVG.")] = None,
    max_shapes: Annotated[int, typer.Option(min=2, max=32, help="At most so many shapes, with the catch-all.")] = 8,
    max_model_len: _MaxModelLen = None,
    model: Annotated[
        str | None, typer.Option(help="The manifest is for this model; requests to others are passed over.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A model's folder, to count texts that come without token counts.")
    ] = None,
    template_tokens: Annotated[
        int, typer.Option(min=0, help="What recorded prompts have on top of the text: the chat template's tokens.")
    ] = 0,
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="Share of lines that may be no requests.")] = 0.01,
    as_json: _Json = False,
) -> None:
    """Make a warmup manifest from a traffic log: few shapes that stand for most of its requests."""
    from pratique.inference.warmup.derive import MAX_OUTPUT_TOKENS, derive
    from pratique.inference.warmup.log import LogOptions, load_counter, load_traffic
    from pratique.inference.warmup.plot import render_svg, render_text

    count = load_counter(tokenizer) if tokenizer else None
    options = LogOptions(count=count, max_bad_share=max_bad, template_tokens=template_tokens, model=model)
    read = load_traffic(log, options)
    longest = max(max_model_len - MAX_OUTPUT_TOKENS - template_tokens, 1) if max_model_len else None
    found = derive(read.traffic, max_shapes=max_shapes, max_prompt_tokens=longest, model=model)
    if plot is not None:
        _write(plot, render_svg(found, read.traffic))
    manifest = _manifest_toml(found, log)
    if out is not None:
        _write(out, manifest)
    if as_json:
        _print_json(_derivation_fields(found, read))
        return
    for line in (*_log_lines(read), *render_text(found, read.traffic), "", *_coverage_lines(found)):
        print(line, file=sys.stderr)
    if out is None:
        print(manifest, end="")


@app.command("run")
def run_command(
    url: Annotated[str, typer.Argument(help="A model server, for example http://127.0.0.1:8081.")],
    manifest: Annotated[Path | None, typer.Option(help="The shapes. Default: those that are built in.")] = None,
    requests: Annotated[int, typer.Option(min=1, max=1000, help="Of each shape, after the first one.")] = 9,
    max_ratio: Annotated[
        float | None,
        typer.Option(min=0, help="Exit with 1 where a first request takes more than so many times longer."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one request may take.")] = 300.0,
    as_json: _Json = False,
) -> None:
    """Send the shapes to a running server; compare the first request of each with those after it."""
    import asyncio

    from pratique.core.clock import SystemClock
    from pratique.inference.warmup.manifest import load_manifest
    from pratique.inference.warmup.probe import ProbeOptions, probe

    options = ProbeOptions(
        manifest=load_manifest(manifest) if manifest else None, num_repeats=requests, timeout_seconds=timeout
    )
    measured = asyncio.run(
        probe(url, options, clock=SystemClock(), started=lambda shape: print(f"sending {shape.name}", file=sys.stderr))
    )
    if as_json:
        _print_json({"url": url, "shapes": [_measured_fields(one) for one in measured]})
    else:
        _print_measured(measured)
    slow = [one for one in measured if max_ratio is not None and one.ratio > max_ratio]
    for one in slow:
        print(f"not warm: the first '{one.name}' took {one.ratio:.2f} times as long as later ones", file=sys.stderr)
    if slow:
        raise typer.Exit(_TOO_SLOW)


@app.command("check")
def check_command(
    file: Annotated[Path, typer.Argument(help="A warmup manifest, .toml or .json.")],
    max_model_len: _MaxModelLen = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="An adapter that the model has. May be repeated. Default: any.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Say what is wrong with a warmup manifest, or list its shapes. Exit code 2 where something is."""
    import msgspec

    from pratique.inference.warmup.manifest import load_manifest, shapes_for

    manifest = load_manifest(file)
    named = [entry.adapter for entry in manifest.shapes if entry.adapter is not None]
    size = _ANY_LENGTH if max_model_len is None else max_model_len
    shapes_for(manifest, max_model_len=size, adapters=adapter or named, where=str(file))
    if as_json:
        _print_json({"file": str(file), "manifest": msgspec.to_builtins(manifest)})
        return
    for entry in manifest.shapes:
        share = "" if entry.share is None else f"  {entry.share:.1%} of the traffic"
        by = "" if entry.adapter is None else f"  adapter {entry.adapter}"
        print(f"{entry.name}  {entry.prompt_tokens} + {entry.output_tokens} tokens{by}{share}")
    if manifest.catch_all:
        print("catch-all  the whole context" if max_model_len is None else f"catch-all  {max_model_len} tokens")


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of warmup manifests."""
    from pratique.inference.warmup.manifest import render_schema

    print(render_schema(), end="")


def _write(path: Path, text: str) -> None:
    from pratique.inference.errors import WarmupManifestError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WarmupManifestError(f"{path} cannot be written: {error.strerror or error}.") from error


def _manifest_toml(found: Derivation, log: Path) -> str:
    from pratique.inference.warmup.manifest import render_toml

    name = "standard input" if str(log) == "-" else log.name.encode("ascii", "replace").decode()
    head = f"Derived from {found.num_requests} requests in {name}; its shapes cover {found.coverage:.1%} of them."
    above = [
        f"{cluster.low} to {cluster.high} tokens: {found.share(cluster):.1%} of the requests"
        for cluster in found.clusters
    ]
    return render_toml(found.manifest, comments=[head, *above])


def _log_lines(read: TrafficLog) -> list[str]:
    lines = [f"{read.num_requests} requests, {read.num_passed_over} other lines passed over, {read.num_bad} unreadable"]
    # Words between the server's own events are passed over: they are no reason for concern.
    named = read.first_bad if read.num_bad else ()
    return [*lines, *(f"  line {bad.number}: {bad.why}" for bad in named), ""]


def _coverage_lines(found: Derivation) -> list[str]:
    lines = [
        f"{cluster.name:>16}  {cluster.low:>6} to {cluster.high:<7} {found.share(cluster):6.1%} of the requests, "
        f"{cluster.num_covered / cluster.num_requests:6.1%} of them no longer than the shape"
        for cluster in found.clusters
    ]
    if found.num_too_long:
        lines.append(
            f"{found.num_too_long} requests fill the model's context or are longer: only the catch-all is near"
        )
    return [*lines, f"overall {found.coverage:.1%} covered; the catch-all stands for the rest", ""]


def _derivation_fields(found: Derivation, read: TrafficLog) -> dict[str, object]:
    import msgspec

    clusters = [
        {
            **msgspec.to_builtins(cluster),
            "share": round(found.share(cluster), 6),
            "covered_share": round(cluster.num_covered / cluster.num_requests, 6),
        }
        for cluster in found.clusters
    ]
    return {
        "num_requests": found.num_requests,
        "num_too_long": found.num_too_long,
        "num_passed_over": read.num_passed_over,
        "num_bad": read.num_bad,
        "coverage": round(found.coverage, 6),
        "clusters": clusters,
        "manifest": msgspec.to_builtins(found.manifest),
    }


def _measured_fields(one: Measured) -> dict[str, object]:
    import msgspec

    fields: dict[str, object] = msgspec.to_builtins(one)
    return {**fields, "steady_seconds": round(one.steady_seconds, 5), "ratio": round(one.ratio, 4)}


def _print_measured(measured: Sequence[Measured]) -> None:
    print(f"{'shape':16} {'prompt':>7} {'first ms':>9} {'later ms':>9} {'ratio':>6}")
    for one in measured:
        first, later = one.first.first_token_seconds * 1e3, one.steady_seconds * 1e3
        print(f"{one.name:16} {one.first.prompt_tokens:>7} {first:>9.1f} {later:>9.1f} {one.ratio:>6.2f}")


def _print_json(fields: dict[str, object]) -> None:
    import msgspec

    print(msgspec.json.encode({"schema_version": 1, **fields}).decode())
