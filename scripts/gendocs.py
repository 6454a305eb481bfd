"""Write docs/reference/ from the code: what exists is what is documented.

    python scripts/gendocs.py            write the pages
    python scripts/gendocs.py --check    say which pages are out of date, and fail where there are any

Each page is a function here that reads types, docstrings and tables of the product; nothing about the product is
written in this file but the order of things and the text between the tables.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import json
import pkgutil
import re
import sys
import textwrap
import typing
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Any
from unittest.mock import MagicMock

import msgspec

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
NOTICE = "<!-- Made from the code: `python scripts/gendocs.py` writes it again. -->\n"


@functools.cache
def import_everything() -> None:
    """Import every module of the product, once, so that every subclass and every metric is known."""
    import pratique

    for module in pkgutil.walk_packages(pratique.__path__, "pratique."):
        importlib.import_module(module.name)


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Write a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def summary(thing: object) -> str:
    """Return the docstring's first paragraph in one line."""
    text = inspect.getdoc(thing) or ""
    return " ".join(text.split("\n\n")[0].split())


def field_notes(kind: type) -> dict[str, str]:
    """Return the texts that stand below the fields of a class."""
    [body] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - a class's source is a class
    notes: dict[str, str] = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            notes[before.target.id] = " ".join(str(after.value.value).split())
    return notes


def type_name(hint: Any) -> str:  # noqa: ANN401 - any annotation
    """Say a type in a few words, with its bounds."""
    if typing.get_origin(hint) is typing.Annotated:
        base, *metas = typing.get_args(hint)
        return ", ".join([type_name(base), *(bounds for meta in metas if (bounds := bounds_of(meta)))])
    if typing.get_origin(hint) in (UnionType, typing.Union):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        return " or ".join(map(type_name, parts)) + (" or null" if len(parts) < len(typing.get_args(hint)) else "")
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(f'"{choice}"' for choice in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        if len(inner) == 2 and inner[1] is Ellipsis:  # noqa: PLR2004 - a tuple of any length is written with two
            return f"list of {type_name(inner[0])}"
        return f"list of {len(inner)}: " + ", ".join(map(type_name, inner))
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}.get(
        hint.__name__, f"`{hint.__name__}`"
    )


def bounds_of(meta: Any) -> str:  # noqa: ANN401 - msgspec's Meta, whatever it holds
    """Say the bounds of an annotated type."""
    signs = {"ge": "≥ ", "gt": "> ", "le": "≤ ", "lt": "< ", "min_length": "length ≥ ", "max_length": "length ≤ "}
    said = [f"{sign}{value:,}" for name, sign in signs.items() if (value := getattr(meta, name, None)) is not None]
    pattern = getattr(meta, "pattern", None)
    return ", ".join(said + ([f"matches `{pattern}`"] if pattern else []))


def struct_table(kind: Any) -> str:  # noqa: ANN401 - any msgspec struct
    """Write the fields of a struct."""
    from pratique.orchestrator.protocol.meanings import meaning_of_field

    def meaning(field: str) -> str:
        return notes.get(field) or (meaning_of_field(kind.__name__, field) if ".protocol." in kind.__module__ else "")

    notes, hints = field_notes(kind), typing.get_type_hints(kind, include_extras=True)
    rows = [
        (f"`{field.name}`", type_name(hints[field.name]), default_of(field), meaning(field.name))
        for field in msgspec.structs.fields(kind)
    ]
    return table(("field", "type", "default", "meaning"), rows) if rows else "No fields.\n"


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """Say a field's default value."""
    if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        return "see below"
    return f"`{msgspec.json.encode(value, enc_hook=str).decode()}`"


# The pages


def settings_page() -> str:
    """Every setting of every part that reads a configuration file or the environment."""
    from pratique.core.settings import Settings

    text = [
        "# Settings\n",
        "A part reads its settings from defaults, then the table named after it in the TOML file given with",
        "`--config`, then the environment, then flags; later ones win. Unknown names are refused.\n",
    ]
    for part, kind in sorted(settings_parts(Settings).items()):
        text += [f"## {part}\n", summary(kind) + "\n"]
        if "." not in part and part in ROOTS:
            text.append(f"Table `[{part}]`; environment `PRATIQUE_{part.upper()}_<FIELD>`.\n")
        text.append(struct_table(kind))
    return "\n".join(text)


ROOTS = {"client", "inference", "orchestrator", "release", "sagemaker", "stack"}
"""The parts that are tables of their own; all others are tables inside one of these."""


def settings_parts(base: type) -> dict[str, Any]:
    """Return every settings type of the product by its part."""
    found: dict[str, Any] = {kind.__name__.removesuffix("Settings").lower(): kind for kind in subclasses(base)}
    return {part: kind for part, kind in found.items() if kind.__module__.startswith("pratique.")}


def subclasses(base: Any) -> list[Any]:  # noqa: ANN401 - any class
    """Return all subclasses, theirs included, without doubles."""
    return list(dict.fromkeys(one for kind in base.__subclasses__() for one in (kind, *subclasses(kind))))


def metrics_page() -> str:
    """Every metric of the catalogue."""
    from pratique.core.metrics import METRICS

    text = ["# Metrics\n", "Served at `/metrics` by each orchestrator and model server, in Prometheus' text format.\n"]
    parts: dict[str, list[tuple[str, ...]]] = {}
    for name, spec in sorted(METRICS.items()):
        if name.startswith("pratique_"):
            labels = ", ".join(f"`{label}`" for label in spec.labels)
            parts.setdefault(name.split("_")[1], []).append((f"`{name}`", spec.kind.value, labels, spec.help))
    for part, rows in parts.items():
        text += [f"## {part}\n", table(("metric", "kind", "labels", "meaning"), rows)]
    text += ["## vllm\n", "A model server with vLLM adds the engine's own metrics, named `vllm:…`.\n"]
    return "\n".join(text)


# Codes that no class of their own stands for.
BARE_CODES = {
    "first_token_timeout": "The reply's first token did not come in time.",
    "inter_token_timeout": "The reply's next token did not come in time.",
    "internal": "Something unforeseen failed inside the service; its log says what.",
    "method_not_allowed": "The path exists, for another method.",
    "no_replica": "The edge's own answer: no replica takes traffic right now.",
    "not_found": "There is no such path.",
    "rate_limited": "Too many requests of one principal.",
}


def error_classes(code: str = "") -> list[Any]:
    """Return every error of the product; with a code, those that stand for it and have not only inherited it."""
    from pratique.core.errors import PratiqueError

    found = [kind for kind in subclasses(PratiqueError) if kind.__module__.startswith("pratique.")]
    if code:
        found = [kind for kind in found if kind.code == code and "code" in vars(kind)]
    # Subclasses come in the order in which their modules were imported, which is not the same in every process.
    return sorted(found, key=lambda kind: (kind.__module__, kind.__qualname__))


def meaning_of(code: str, *, parts: tuple[str, ...] = ("pratique.",)) -> str:
    """Say what a code means, in the words of these parts where they have any."""
    kinds = error_classes(code)
    # The client's errors mirror the server's: where both exist, the server's words say more.
    mirrors = [kind for kind in kinds if kind.__module__.startswith("pratique.client")]
    said = [kind for kind in kinds if kind not in mirrors and kind.__module__.startswith(parts)] or mirrors or kinds
    return BARE_CODES.get(code) or " / ".join(dict.fromkeys(summary(kind) for kind in said))


def errors_page() -> str:
    """Every error that is raised on purpose, by its code."""
    from pratique.client.errors import WIRE_ERRORS
    from pratique.orchestrator.protocol.errors import HTTP_STATUS

    codes = sorted({kind.code for kind in error_classes()} | set(HTTP_STATUS) | set(WIRE_ERRORS) | set(BARE_CODES))
    rows = []
    for code in codes:
        exits = ", ".join(sorted({str(kind.exit_code) for kind in error_classes(code)}))
        rows.append((f"`{code}`", str({"no_replica": 503, **HTTP_STATUS}.get(code, "")), exits, meaning_of(code)))
    return "\n".join(
        [
            "# Errors\n",
            "Every error has a stable code. It goes over the wire (`error.code`), the text is for people. Exit codes",
            "of the command line: 0 yes, 1 refused or the answer is no, 2 wrong usage, 3 the environment failed or it",
            "could not be decided, 130 interrupted.\n",
            table(("code", "HTTP", "exit", "meaning"), rows),
        ]
    )


def protocol_page() -> str:
    """Frames and events, and how they follow each other."""
    from pratique.orchestrator.protocol import bodies, events, frames
    from pratique.orchestrator.protocol.schema import CLOSE_CODES

    values = subclasses(events._Value)  # noqa: SLF001 - the base of the values is no part of the interface
    values += [events.Role, events.TurnStatus, events.FinishReason]
    parts = {
        "version": str(frames.PROTOCOL_VERSION),
        "frames": paragraphs(frames.__doc__)
        + "\n"
        + "\n".join(map(message_section, typing.get_args(frames.ClientFrame))),
        "events": paragraphs(events.__doc__)
        + "\n"
        + "\n".join(map(message_section, typing.get_args(events.ServerEvent))),
        "values": "\n".join(map(value_section, values)),
        "reply": struct_table(bodies.Reply),
        "close_codes": table(("code", "meaning"), [(str(code), text) for code, text in CLOSE_CODES.items()]),
        "errors": error_table(),
    }
    text = (FOLDER / "_protocol.md.in").read_text(encoding="utf-8")
    return "# Chat protocol\n\n" + re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], text)


def message_section(kind: Any) -> str:  # noqa: ANN401 - a frame or event
    """Write a frame or an event: what it means, its fields, an example."""
    from pratique.orchestrator.protocol.examples import example_of

    mark = " (event)" if kind.__module__.endswith(".events") else ""
    example = json.dumps(example_of(kind), ensure_ascii=False, indent=1)
    text = [f"### `{tag_of(kind)}`{mark}\n", paragraphs(kind.__doc__), struct_table(kind)]
    return "\n".join([*text, f"```json\n{example}\n```\n"])


def value_section(kind: Any) -> str:  # noqa: ANN401 - a msgspec struct or an enum
    """Write a value inside events."""
    is_struct = issubclass(kind, msgspec.Struct)
    body = struct_table(kind) if is_struct else ", ".join(f"`{entry.value}`" for entry in kind) + "\n"
    return "\n".join([f"### `{kind.__name__}`\n", summary(kind) + "\n", body])


def error_table() -> str:
    """Write the codes that a client may meet, and whether to try again."""
    from pratique.client.errors import WIRE_ERRORS
    from pratique.orchestrator.protocol.errors import HTTP_STATUS
    from pratique.orchestrator.protocol.meanings import RETRY_ADVICE

    rows = []
    for code in sorted({*HTTP_STATUS, *WIRE_ERRORS}):
        meaning = meaning_of(code, parts=("pratique.core", "pratique.orchestrator"))
        rows.append((f"`{code}`", str(HTTP_STATUS.get(code, "")), RETRY_ADVICE.get(code, "no"), meaning))
    return table(("code", "HTTP", "try again?", "meaning"), rows)


def tag_of(kind: Any) -> str:  # noqa: ANN401 - any tagged msgspec struct
    """Return the `type` of a frame or event."""
    return str(kind.__struct_config__.tag)


def paragraphs(text: str | None) -> str:
    """Return a module's docstring as Markdown."""
    return inspect.cleandoc(text or "") + "\n"


def http_page() -> str:
    """The HTTP API of the chat service and of a model server."""
    from pratique.orchestrator.api.chat import ChatRoutes
    from pratique.orchestrator.api.guard import needs_principal
    from pratique.orchestrator.api.models import ModelRoutes
    from pratique.orchestrator.api.probes import ProbeRoutes

    stub: Any = MagicMock()
    rows = [("`GET`", "`/api/ws`", "yes", "The chat over WebSocket: see the [protocol](protocol.md).")]
    for route in [*ChatRoutes(stub).routes(), *ModelRoutes(stub).routes(), *ProbeRoutes(stub).routes()]:
        methods = ", ".join(f"`{method}`" for method in sorted(route.methods or ()) if method != "HEAD")
        rows.append((methods, f"`{route.path}`", "yes" if needs_principal(route.path) else "", summary(route.endpoint)))
    rows.append(("any", "`/v1/…`", "API key", "The OpenAI API, relayed to the model servers without buffering."))
    rows.append(("`GET`", "`/`", "", "The chat page and its files."))
    return (
        (FOLDER / "_http.md.in")
        .read_text(encoding="utf-8")
        .replace("{{routes}}", table(("method", "path", "needs a principal", "what it does"), rows))
    )


def lifecycle_page() -> str:
    """States of a model server and the steps between them."""
    from pratique.inference import lifecycle

    steps = lifecycle._STEPS  # noqa: SLF001 - the table is the page
    rows = []
    for state in lifecycle.State:
        following = ", ".join(f"`{entry.value}`" for entry in lifecycle.State if entry in steps[state])
        rows.append((f"`{state.value}`", "yes" if state.value == "traffic_ready" else "no", following or "none"))
    return "\n".join(
        [
            "# Lifecycle of a model server\n",
            paragraphs(lifecycle.__doc__),
            table(("state", "takes traffic", "next states"), rows),
        ]
    )


def testkit_page() -> str:
    """What the pytest plugin adds: fixtures, markers, flags, ini values; its services and what each does not show."""
    from _pytest.config.argparsing import Parser

    from pratique.testkit import fixtures, hooks
    from pratique.testkit.services.catalogue import make_services

    parser = Parser(_ispytest=True)
    hooks.pytest_addoption(parser)
    services = make_services()
    backs = {f"pratique_{name}" for name in services}
    marks = [line.partition(": ") for line in hooks.MARKERS]
    flags = [option for group in parser._groups for option in group.options]  # noqa: SLF001 - pytest has no other view
    inis = sorted(parser._inidict.items())  # noqa: SLF001 - as above
    rows = {
        "Fixtures": table(("fixture", "scope", "what it is"), [row for _, row in sorted(fixture_rows(fixtures))]),
        "Markers": table(("marker", "meaning"), [(f"`{name}`", text) for name, _, text in marks]),
        "Flags": table(
            ("flag", "meaning"),
            [(f"`{one.names()[-1]}`", str(one.attrs().get("help"))) for one in flags if one.dest not in backs],
        ),
        "Ini values": table(
            ("name", "meaning", "default"),
            [
                (f"`{name}`", str(entry[0]), f"`{entry[2]}`" if entry[2] else "")
                for name, entry in inis
                if name not in backs
            ],
        ),
    }
    text = ["# Test kit\n", paragraphs((FOLDER / "_testkit.md.in").read_text("utf-8")), paragraphs(fixtures.__doc__)]
    text += [f"## {title}\n\n{body}" for title, body in rows.items()]
    return "\n".join([*text, "## Services\n", *service_sections(services)])


def fixture_rows(module: Any) -> list[tuple[str, tuple[str, ...]]]:  # noqa: ANN401 - a module
    """Return the fixtures of a module: name, scope, meaning."""
    from _pytest.fixtures import FixtureFunctionDefinition

    found = [(name, value) for name, value in vars(module).items() if isinstance(value, FixtureFunctionDefinition)]
    return [
        (name, (f"`{name}`", str(value._fixture_function_marker.scope), summary(value._get_wrapped_function())))  # noqa: SLF001 - as above
        for name, value in found
    ]


def service_sections(services: Any) -> list[str]:  # noqa: ANN401 - by name, each of its own type
    """Return a section for each service: what its fixtures offer, its providers and their gaps."""
    text = []
    for name, service in services.items():
        flag = f"--pratique-{name.replace('_', '-')}"
        text += [
            f"### {name}\n",
            f"{service.title}. Where from: `{flag}`, `PRATIQUE_TEST_{name.upper()}`, `pratique_{name}`.\n",
        ]
        providers = [
            (
                f"`{provider.name}`",
                provider.backend.value,
                ", ".join(f"`{gap}`" for gap in provider.gaps) or "nothing known",
            )
            for provider in service.providers
        ]
        text.append(table(("provider", "back end", "does not show"), providers))
        for role, kind in types_of(service).items():
            text += [f"The {role}, `{kind.__name__}`:\n", table(("member", "what it does"), members_of(kind))]
        rows = []
        for capability, meaning in service.capabilities.items():
            gaps = [f"{one.name}: {one.gaps[capability]}" for one in service.providers if capability in one.gaps]
            rows.append((f"`{capability}`", meaning, "; ".join(gaps)))
        if rows:
            text.append(table(("for `needs(…)`", "meaning", "gaps"), rows))
    return text


def types_of(service: Any) -> dict[str, Any]:  # noqa: ANN401 - a service of the test kit
    """Return the types of a service's endpoint and namespace."""
    found = {}
    for role, method, attribute in (
        ("endpoint", "connect", "endpoint_type"),
        ("namespace", "namespace", "namespace_type"),
    ):
        named = getattr(service, attribute, None)
        found[role] = named or sys.modules[type(service).__module__].__dict__.get(
            str(getattr(type(service), method).__annotations__["return"])
        )
    return {role: kind for role, kind in found.items() if isinstance(kind, type)}


def members_of(kind: type) -> list[tuple[str, str]]:
    """Return the public methods and properties of a class, its bases' included, each with its first sentence."""
    hidden = {"open", "close", "leaks", "connection", "service"}  # for the kit, not for tests
    rows = []
    for name, member in inspect.getmembers(kind, lambda one: inspect.isfunction(one) or isinstance(one, property)):
        if not name.startswith("_") and name not in hidden:
            signature = (
                "" if isinstance(member, property) else "(…)" if len(inspect.signature(member).parameters) > 1 else "()"
            )
            rows.append((f"`{name}{signature}`", summary(member)))
    return rows


def cli_page() -> str:
    """Every command, argument and flag."""
    import typer

    from pratique.cli.main import app

    text = ["# Command line\n", "Data goes to standard output, everything for people to standard error.\n"]
    for path, command in commands(typer.main.get_command(app), "pratique"):
        text += [f"## `{path}`\n", (command.help or "").replace("\b", "").strip() + "\n"]
        rows = []
        for parameter in command.params:
            names = [*parameter.opts, *parameter.secondary_opts]
            shown = parameter.name.upper() if parameter.param_type_name == "argument" else ""
            help_text = str(getattr(parameter, "help", "") or "")
            if parameter.name != "help":
                rows.append((", ".join(f"`{name}`" for name in ([shown] if shown else names)), help_text))
        text.append(table(("flag", "meaning"), rows) if rows else "")
    return "\n".join(text)


def commands(command: Any, path: str) -> list[tuple[str, Any]]:  # noqa: ANN401 - typer keeps its command types private
    """Return a command and all below it, with the words that call each."""
    found = [(path, command)]
    for name in sorted(getattr(command, "commands", {})):
        loaded = command.load_command(name) if hasattr(command, "load_command") else command.commands[name]
        found += commands(loaded, f"{path} {name}")
    return found


PAGES = SimpleNamespace(
    cli=cli_page,
    errors=errors_page,
    http=http_page,
    lifecycle=lifecycle_page,
    metrics=metrics_page,
    protocol=protocol_page,
    settings=settings_page,
    testkit=testkit_page,
)


def make_pages() -> dict[Path, str]:
    """Return the text of every page by its file."""
    import_everything()
    return {
        FOLDER / f"{name}.md": NOTICE + re.sub(r"\n{3,}", "\n\n", make()).rstrip() + "\n"
        for name, make in vars(PAGES).items()
    }


def main() -> int:
    """Write or check the pages; return the exit code."""
    stale = [file for file, text in make_pages().items() if not file.exists() or file.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        for file in stale:
            print(f"{file.relative_to(ROOT)} is out of date: run scripts/gendocs.py", file=sys.stderr)
        return int(bool(stale))
    for file, text in make_pages().items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    print(f"{len(stale)} of {len(vars(PAGES))} pages of docs/reference changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
