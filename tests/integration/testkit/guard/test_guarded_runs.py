"""Whole runs of pytest with the guard: what it refuses, pins, blocks, and that nothing of it is left."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from pratique.testkit.guard.watch import current_guard

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration
pytest_plugins = ["pytester"]

FAR = "192.0.2.1"
"""Of a network that exists in documentation only: nothing would answer, were it reached."""
BLOCKED = "NetworkBlockedError"


@pytest.fixture(autouse=True)
def without_what_the_outer_run_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def run(pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run tests in this process; with `-n` there are workers beside it."""

    def run_tests(code: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(code)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "--strict-markers", *arguments)

    return run_tests


def made_up_key_id() -> str:
    # Put together here: no source file may hold what looks like a key.
    return "AKIA" + "Q3EGUPZ7WMXC5JVN"


def made_up_secret() -> str:
    return "kR9wTq2LxVb7Nc4Z" + "mYp8HdGfJs3A/u6E+oQiW1Xt"


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_real_looking_keys_in_the_environment_refuse_the_run_without_showing_them(
    run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", made_up_key_id())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", made_up_secret())
    ran = run("def test_x(): raise SystemExit('it ran')", *workers)
    said = str(ran.outlines + ran.errlines)
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert "AWS_ACCESS_KEY_ID=AKIA… (20 characters)" in said
    assert "--pratique-allow-credentials" in said
    assert "it ran" not in said
    assert made_up_key_id() not in said
    assert made_up_secret() not in said


def test_credentials_can_be_allowed_and_the_header_says_so_loudly(
    run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", made_up_key_id())
    ran = run(
        f"import os\ndef test_x(): assert os.environ['AWS_ACCESS_KEY_ID'][4:] == {made_up_key_id()[4:]!r}",
        "--pratique-allow-credentials",
    )
    ran.assert_outcomes(passed=1)
    ran.stdout.fnmatch_lines(["*!!! REAL AWS CREDENTIALS ARE ALLOWED IN THIS RUN !!!"])


def test_a_shared_file_with_keys_and_a_role_of_a_container_are_out_of_reach(
    run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    home = pytester.mkdir("home")
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id = {made_up_key_id()}\naws_secret_access_key = {made_up_secret()}\n"
        "[prod]\ncredential_process = touch ran\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_PROFILE", "prod")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials")
    ran = run("""
        import boto3, os
        def test_x():
            session = boto3.Session()
            assert session.available_profiles == []
            assert session.get_credentials().access_key == "testing"
            assert session.region_name == "us-east-1"
            assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" not in os.environ
        """)
    ran.assert_outcomes(passed=1)
    assert os.environ["AWS_PROFILE"] == "prod"
    assert "AWS_ACCESS_KEY_ID" not in os.environ
    assert "AWS_ENDPOINT_URL" not in os.environ


REACHING = """
    import asyncio, http.client, socket, threading, urllib.request
    import aiohttp, pytest, redis
    from pratique.testkit.errors import NetworkBlockedError

    def connect():
        socket.create_connection(("FAR", 443), timeout=1)

    def datagram():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("FAR", 53))

    def message():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendmsg([b"x"], [], 0, ("FAR", 53))

    def mapped():
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.connect(("::ffff:FAR", 53))

    def look_up():
        socket.getaddrinfo("a-name.invalid", 80)

    def look_up_old():
        socket.gethostbyname("a-name.invalid")

    def asynchronous():
        asyncio.run(asyncio.open_connection("FAR", 443))

    def url():
        urllib.request.urlopen("http://FAR/", timeout=1)

    def cache():
        redis.Redis("FAR", socket_connect_timeout=1).ping()

    def session():
        async def get():
            async with aiohttp.ClientSession() as client:
                await client.get("http://FAR/")
        asyncio.run(get())

    def thread():
        caught = []
        def work():
            try:
                connect()
            except NetworkBlockedError as error:
                caught.append(error)
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        raise caught[0]

    WAYS = [connect, datagram, message, mapped, look_up, look_up_old, asynchronous, url, cache, session, thread]

    @pytest.mark.parametrize("reach", WAYS)
    def test_reach(reach):
        with pytest.raises(NetworkBlockedError, match="test_reach.*tried to.*blocked it") as caught:
            reach()
        assert "allow_hosts" in str(caught.value)
    """.replace("FAR", FAR)


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_every_way_out_is_blocked_and_listed(run: Callable[..., pytest.RunResult], workers: tuple[str, ...]) -> None:
    ran = run(REACHING, *workers)
    ran.assert_outcomes(passed=11)
    ran.stdout.fnmatch_lines(["*pratique guard: blocked*", f"*test_reach?connect?: tried to reach {FAR}:443"])


def test_this_machine_is_not_blocked(run: Callable[..., pytest.RunResult]) -> None:
    run("""
        import asyncio, socket
        import pytest

        @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1"])
        def test_tcp(host):
            with socket.create_server(("127.0.0.1", 0)) as server:
                with socket.create_connection((host, server.getsockname()[1]), timeout=5):
                    pass

        def test_unix():
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
                server.bind("")
                server.listen()
                client.connect(server.getsockname())

        def test_own_name():
            try:
                socket.getaddrinfo(socket.gethostname(), 0)
            except socket.gaierror:
                pass
        """).assert_outcomes(passed=5)


def test_hosts_are_allowed_by_mark_flag_and_ini_for_as_long_as_they_say(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    pytester.makeini("[pytest]\npratique_allow_hosts = 198.51.100.0/24")
    ran = run(
        """
        import socket
        import pytest
        from pratique.testkit.errors import NetworkBlockedError

        def reach(host):
            # Not blocking, so that nothing is waited for; what the network says is not the point.
            with socket.socket() as sock:
                sock.setblocking(False)
                sock.connect_ex((host, 9))

        def test_ini(): reach("198.51.100.7")
        def test_flag(): reach("203.0.113.5")
        @pytest.mark.allow_hosts("192.0.2.1")
        def test_mark(): reach("192.0.2.1")
        @pytest.mark.allow_hosts(["192.0.2.1"])
        def test_list(): reach("192.0.2.1")
        @pytest.mark.network
        def test_network(): reach("192.0.2.200")
        def test_after():
            with pytest.raises(NetworkBlockedError):
                reach("192.0.2.1")
        """,
        "--pratique-allow-hosts=203.0.113.5",
    )
    ran.assert_outcomes(passed=6)


@pytest.mark.parametrize("given", ["http://x/", "10.0.0.1:80", "a b"])
def test_a_host_that_means_nothing_is_a_usage_error(run: Callable[..., pytest.RunResult], given: str) -> None:
    ran = run("def test_x(): pass", f"--pratique-allow-hosts={given}")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert "is not a host" in str(ran.errlines)
    marked = run(f"import pytest\n@pytest.mark.allow_hosts({given!r})\ndef test_x(): pass")
    assert marked.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("ini", ["pratique_guard = maybe", "pratique_aws_endpoint = here"])
def test_an_ini_value_that_means_nothing_is_a_usage_error(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester, ini: str
) -> None:
    pytester.makeini(f"[pytest]\n{ini}")
    assert run("def test_x(): pass").ret == pytest.ExitCode.USAGE_ERROR


def test_what_is_swallowed_and_what_is_blocked_in_a_fixture_or_an_import_is_told_all_the_same(
    run: Callable[..., pytest.RunResult],
) -> None:
    ran = run(f"""
        import contextlib, socket
        import pytest
        def reach():
            with contextlib.suppress(Exception):
                socket.create_connection(("{FAR}", 443), timeout=1)
        reach()
        @pytest.fixture
        def fixture(): reach()
        def test_x(fixture): reach()
        """)
    ran.assert_outcomes(passed=1)
    said = f"tried to reach {FAR}:443"
    ran.stdout.fnmatch_lines([f"something outside a test*: {said}", f"*::test_x: {said}"])


def test_off_means_off(run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", made_up_key_id())
    ran = run("import os\ndef test_x(): assert 'AWS_ENDPOINT_URL' not in os.environ", "--pratique-guard=off")
    ran.assert_outcomes(passed=1)


def test_nothing_is_left_after_the_session(run: Callable[..., pytest.RunResult]) -> None:
    def state() -> tuple[object, ...]:
        import botocore.httpsession
        from botocore.endpoint import Endpoint

        classes = (botocore.httpsession.URLLib3Session.send, vars(Endpoint)["_do_get_response"])
        aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        return aws, list(sys.meta_path), current_guard(), classes

    before = state()
    run("import os\ndef test_x(): assert os.environ['AWS_ACCESS_KEY_ID'] == 'testing'").assert_outcomes(passed=1)
    assert state() == before


EARLY = f"""
    import contextlib, os, socket
    from pratique.testkit.errors import NetworkBlockedError
    SEEN = dict(os.environ)
    try:
        socket.create_connection(("{FAR}", 443), timeout=1)
    except NetworkBlockedError:
        SEEN["blocked"] = "yes"

    def pytest_configure(config):
        config.seen_early = SEEN
    """
SAW = """
    def test_x(request):
        seen = request.config.seen_early
        assert seen["AWS_ACCESS_KEY_ID"] == "testing"
        assert seen["AWS_MAX_ATTEMPTS"] == "1"
        assert seen["blocked"] == "yes"
        assert "AWS_PROFILE" not in seen
        assert "HTTPS_PROXY" not in seen
    """


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_the_first_conftest_is_imported_under_the_guard(
    run: Callable[..., pytest.RunResult],
    monkeypatch: pytest.MonkeyPatch,
    pytester: pytest.Pytester,
    workers: tuple[str, ...],
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "prod")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    pytester.makeconftest(EARLY)
    ran = run(SAW, *workers)
    ran.assert_outcomes(passed=1)
    ran.stdout.fnmatch_lines([f"something outside a test*: tried to reach {FAR}:443"])
    assert os.environ["HTTPS_PROXY"] == "http://127.0.0.1:3128"
    assert "AWS_MAX_ATTEMPTS" not in os.environ


def test_no_conftest_runs_where_the_run_is_refused_and_nothing_is_left(
    run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    outer = current_guard()
    pytester.makeconftest("raise SystemExit('it ran')")
    with monkeypatch.context() as patched:
        patched.setenv("AWS_ACCESS_KEY_ID", made_up_key_id())
        ran = run("def test_x(): pass")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert "it ran" not in str(ran.outlines + ran.errlines)
    pytester.makeconftest("raise RuntimeError('a broken conftest')")
    assert run("def test_x(): pass").ret == pytest.ExitCode.USAGE_ERROR
    assert current_guard() is outer
    assert "AWS_ENDPOINT_URL" not in os.environ


def test_flags_and_ini_values_count_for_the_first_conftest_too(
    run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://lab.invalid:4566")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:3128")
    pytester.makeini("[pytest]\npratique_aws_region = eu-west-1\npratique_allow_hosts = lab.invalid")
    pytester.makeconftest("""
        import os
        assert os.environ["AWS_REGION"] == "eu-west-1"
        assert os.environ["AWS_ENDPOINT_URL"] == "http://lab.invalid:4566"
        assert os.environ["HTTP_PROXY"] == "http://127.0.0.1:3128"
        """)
    run("def test_x(): pass", "--pratique-allow-hosts=127.0.0.1").assert_outcomes(passed=1)


@pytest.mark.parametrize("way", ["-p", "conftest"])
def test_a_kit_that_python_does_not_find_itself_guards_as_well(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    given = ["-p", "pratique.testkit.plugin"] if way == "-p" else []
    brings_in = "" if given else "pytest_plugins = ['pratique.testkit.plugin']"
    pytester.makeconftest(f"""
        {brings_in}
        import os
        REGION = os.environ.get("AWS_REGION")

        def pytest_configure(config):
            config.seen_region = REGION
        """)
    pytester.makepyfile(f"""
        import os, socket
        import pytest
        from pratique.testkit.errors import NetworkBlockedError
        def test_x(request):
            assert request.config.seen_region == {"us-east-1" if given else None!r}
            assert os.environ["AWS_REGION"] == "us-east-1"
            socket.gethostbyname("localhost")
            with pytest.raises(NetworkBlockedError):
                socket.getnameinfo(("192.0.2.1", 80), 0)
        """)
    # In a process of its own: in this one the plugin may be loaded, and the environment pinned.
    for name in ("AWS_REGION", "PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    ran = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", *given, "--pratique-guard=on", "--pratique-allow-hosts=198.51.100.1"
    )
    ran.assert_outcomes(passed=1)
