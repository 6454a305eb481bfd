"""The rules of the house that no linter knows: sizes, exports, quiet imports, documentation that keeps up.

Everything here looks at the checkout as it is, so a rule that is broken anywhere fails here, with the place.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PYTHON = [
    *SOURCES,
    *(
        file
        for folder in ("tests", "scripts", "benchmarks", "examples")
        for file in sorted((ROOT / folder).rglob("*.py"))
    ),
]
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 50
MAX_FILE_BYTES = 1_000_000
REFERENCE = ROOT / "docs" / "reference"


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@functools.cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def all_of(tree: ast.Module) -> list[str] | None:
    """The module's `__all__`, None where there is none or it is not a plain list."""
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            value = ast.literal_eval(node.value) if node.value is not None else None
            return list(value) if isinstance(value, list | tuple) else None
    return None


def functions_of(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of the body, the docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@dataclass
class Names:
    """What stands at a module's top level."""

    defined: set[str] = field(default_factory=set)
    public: set[str] = field(default_factory=set)
    """Functions and classes without an underscore, but those that a decorator registers elsewhere."""
    imported: set[str] = field(default_factory=set)


def names_of(tree: ast.Module) -> Names:
    names = Names()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.defined.add(node.name)
            if not node.name.startswith("_") and (isinstance(node, ast.ClassDef) or not node.decorator_list):
                names.public.add(node.name)
        elif isinstance(node, ast.Assign):
            names.defined.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.defined.add(node.target.id)
        elif isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__":
            names.imported.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
    if "__getattr__" in names.defined:  # exports what it imports when asked (PEP 562): declared for type checkers
        names.imported = {
            alias.asname or alias.name
            for block in tree.body
            if isinstance(block, ast.If)
            for node in block.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
    return names


@pytest.mark.parametrize("file", PYTHON, ids=name_of)
def test_modules_and_functions_are_small(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE_LINES
    long = [
        f"{function.name}: {lines_of(function)}"
        for function in functions_of(parse(file))
        if lines_of(function) > MAX_FUNCTION_LINES
    ]
    assert not long


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_a_module_says_what_it_is_and_what_it_exports(file: Path) -> None:
    tree = parse(file)
    assert ast.get_docstring(tree), "a docstring says what the module owns"
    exported = all_of(tree)
    assert exported is not None, "__all__ is missing"
    assert len(set(exported)) == len(exported)
    names = names_of(tree)
    assert set(exported) <= names.defined | names.imported, "__all__ names what does not exist"
    # A package gathers what it imports from its modules; a module exports what it defines.
    is_package = file.name == "__init__.py" and bool(exported)
    assert names.public | (names.imported if is_package else set()) <= set(exported), "public, but not in __all__"
    stars = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    assert not stars


# Importing this one is its work: it runs in the engine's fork server, and does nothing anywhere else.
READS_WHEN_IMPORTED = {"src/pratique/inference/engines/_preload.py"}


@pytest.mark.parametrize("file", [file for file in SOURCES if name_of(file) not in READS_WHEN_IMPORTED], ids=name_of)
def test_no_module_reads_the_environment_when_imported(file: Path) -> None:
    reads = [
        node.lineno
        for statement in parse(file).body
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and not is_main_guard(statement)
    ]
    assert not reads


def is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__main__" in ast.dump(statement.test)


QUIET_IMPORT = """
import importlib, pkgutil, sys, threading
seen = []
def note(event, args):
    if event in {"subprocess.Popen", "os.fork", "socket.bind", "socket.connect", "_thread.start_new_thread"}:
        seen.append((event, repr(args)[:200]))
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        seen.append((event, repr(args)[:200]))
import urllib3  # to see whether there is IPv6 it binds a socket of its own
sys.addaudithook(note)
import pratique
for module in pkgutil.walk_packages(pratique.__path__, "pratique."):
    importlib.import_module(module.name)
heavy = {"torch", "vllm", "transformers"} & set(sys.modules)
print(seen or "", heavy or "", threading.active_count() - 1 or "")
"""


@pytest.mark.slow
def test_importing_everything_starts_nothing() -> None:
    """No process, socket, thread, written file; and nothing heavy is imported before it is asked for."""
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", QUIET_IMPORT],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [file for name in listed.split("\0") if name and (file := ROOT / name).is_file()]


def test_no_large_file_is_tracked() -> None:
    assert not [name_of(file) for file in tracked() if file.stat().st_size > MAX_FILE_BYTES]


@pytest.fixture(scope="module")
def gendocs() -> Any:
    spec = importlib.util.spec_from_file_location("gendocs", ROOT / "scripts" / "gendocs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def commands(gendocs: Any) -> dict[str, Any]:
    """Every command by its path; loading them all takes half a second, so it is done once."""
    import typer

    from pratique.cli.main import app

    return dict(gendocs.commands(typer.main.get_command(app), "pratique"))


def test_the_reference_is_what_the_code_says(gendocs: Any) -> None:
    stale = [
        file.name
        for file, text in gendocs.make_pages().items()
        if not file.exists() or file.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run: python scripts/gendocs.py"


def test_every_setting_is_documented(gendocs: Any) -> None:
    gendocs.import_everything()
    from pratique.core.settings import Settings

    text = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    named = [field for kind in gendocs.settings_parts(Settings).values() for field in kind.__struct_fields__]
    assert named
    assert not [field for field in named if f"`{field}`" not in text]


def test_every_metric_error_frame_and_event_is_documented(gendocs: Any) -> None:
    gendocs.import_everything()
    import typing

    from pratique.core.errors import PratiqueError
    from pratique.core.metrics import METRICS
    from pratique.orchestrator.protocol import events, frames

    metrics, errors, protocol = (
        (REFERENCE / f"{page}.md").read_text(encoding="utf-8") for page in ("metrics", "errors", "protocol")
    )
    assert not [name for name in METRICS if name.startswith("pratique_") and f"`{name}`" not in metrics]
    kinds = [kind for kind in gendocs.subclasses(PratiqueError) if kind.__module__.startswith("pratique.")]
    assert not [kind.__name__ for kind in kinds if f"`{kind.code}`" not in errors]
    said = (*typing.get_args(frames.ClientFrame), *typing.get_args(events.ServerEvent))
    assert not [kind for kind in said if f"### `{gendocs.tag_of(kind)}`" not in protocol]


def test_every_command_and_flag_is_documented_with_a_meaning(commands: dict[str, Any]) -> None:
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    for path, command in commands.items():
        assert f"## `{path}`\n" in text
        assert command.help, path
        for parameter in command.params:
            if parameter.name != "help":
                assert parameter.help, f"{path} {parameter.name} has no help"
                assert all(f"`{flag}`" in text for flag in parameter.opts if flag.startswith("-"))


PAGES = [file for file in tracked() if file.suffix == ".md"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors_of(file)):
            broken.append(target)
    assert not broken


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_targets_named_in_the_prose_exist(page: Path, commands: dict[str, Any]) -> None:
    text = page.read_text(encoding="utf-8")
    first_words = {path.split()[1] for path in commands if " " in path}
    called = set(re.findall(r"^(?:\$ )?pratique ([a-z-]+)|`pratique ([a-z-]+)", text, flags=re.MULTILINE))
    assert {one or other for one, other in called} <= first_words
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    made = set(re.findall(r"^(?:\$ )?make ([a-z-]+)|`make ([a-z-]+)", text, flags=re.MULTILINE))
    assert {one or other for one, other in made} <= targets


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_examples_compile_and_their_settings_exist(page: Path, gendocs: Any, tmp_path: Path) -> None:
    for code in blocks(page, "python"):
        compile(code, name_of(page), "exec")
    gendocs.import_everything()
    from pratique.core.settings import Settings, load_settings

    parts = gendocs.settings_parts(Settings)
    for number, text in enumerate(blocks(page, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(text, encoding="utf-8")
        for part in tomllib.loads(text):
            assert load_settings(parts[part], part=part, file=file)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_flags_in_examples_exist(page: Path, commands: dict[str, Any]) -> None:
    calls = re.findall(r"^\$ (?:\.venv/bin/)?(pratique .*)$", "\n".join(blocks(page, "console")), flags=re.MULTILINE)
    for call in calls:
        words = call.split("#")[0].split()
        longest = max(size for size in range(1, len(words) + 1) if " ".join(words[:size]) in commands)
        assert longest > 1, call
        flags = {flag for parameter in commands[" ".join(words[:longest])].params for flag in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= flags, call


def test_the_changelog_has_a_section_for_what_comes() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert re.search(rf"^## (Unreleased|{re.escape(version)})", text, flags=re.MULTILINE)
