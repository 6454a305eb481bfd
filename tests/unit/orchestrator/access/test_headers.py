"""What request headers say: tokens, cookies, origins, affinity keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.orchestrator.access import (
    AFFINITY_HEADER,
    AccessError,
    OriginRefusedError,
    UnauthenticatedError,
    affinity,
    check_origin,
)
from pratique.orchestrator.access.headers import bearer_token, cookie

pytestmark = pytest.mark.unit


class TestHeaders:
    @pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic abc", "pk_abc", "Bearer " + "x" * 9000])
    def test_an_authorization_that_is_no_bearer_token_is_refused(self, value: str) -> None:
        with pytest.raises(UnauthenticatedError):
            bearer_token({"authorization": value})

    @pytest.mark.parametrize("value", ["Bearer pk_a", "bearer pk_a", " BEARER  pk_a "])
    def test_a_bearer_token_is_found(self, value: str) -> None:
        assert bearer_token({"authorization": value}) == "pk_a"
        assert bearer_token({}) is None

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("a=1; name=x; name=y", "x"),
            ('name="x"', "x"),
            ("name=x=y", "x=y"),
            ("name", None),
            ("xname=1;;=; = ", None),
            ("", None),
            ("name=x;" + "a" * 20_000, None),
        ],
    )
    def test_cookies_are_found_in_untidy_headers(self, header: str, value: str | None) -> None:
        assert cookie({"cookie": header}, "name") == value

    @pytest.mark.parametrize(
        "origin",
        [
            "null",
            "",
            "http://evil.example",
            "https://chat.example:444",
            "http://chat.example.evil.example",
            "http://chat.example@evil.example",
            "http://user@chat.example",
            "http://chat.example/path",
            "http://chat.example?x",
            "file://",
            "javascript:alert(1)",
            "chat.example",
            "http://chat.example:99999",
            "http://[::1",
            "http://chat.example:x",
            "ftp://chat.example",
        ],
    )
    def test_a_foreign_origin_is_refused(self, origin: str) -> None:
        with pytest.raises(OriginRefusedError):
            check_origin({"origin": origin, "host": "chat.example"}, allowed=["https://other.example"])

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("http://chat.example", "chat.example"),
            ("https://chat.example", "chat.example:443"),
            ("http://CHAT.example:80", "chat.example"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("https://other.example", "chat.example"),
        ],
    )
    def test_this_hosts_and_allowed_origins_pass(self, origin: str, host: str) -> None:
        check_origin({"origin": origin, "host": host}, allowed=["https://other.example:443"])

    def test_programs_pass_and_cross_site_pages_without_origin_do_not(self) -> None:
        check_origin({"host": "chat.example"})
        check_origin({"sec-fetch-site": "same-origin"})
        with pytest.raises(OriginRefusedError):
            check_origin({"sec-fetch-site": "cross-site"})

    def test_no_host_matches_no_origin(self) -> None:
        with pytest.raises(OriginRefusedError):
            check_origin({"origin": "http://"})

    @given(st.text(max_size=50), st.text(max_size=50))
    def test_any_headers_are_answered_with_yes_or_our_own_no(self, origin: str, host: str) -> None:
        try:
            check_origin({"origin": origin, "host": host})
            bearer_token({"authorization": origin})
        except AccessError:
            pass

    def test_an_affinity_key_is_kept_the_header_first_and_else_issued(self) -> None:
        both = {AFFINITY_HEADER: "from-header", "cookie": "pratique_affinity=from-cookie"}
        assert affinity(both).key == "from-header"
        assert affinity({"cookie": both["cookie"]}).key == "from-cookie"
        assert affinity(both).set_cookie is None
        issued = affinity({}, mint=lambda: "k" * 20, secure=True)
        assert issued.key == "k" * 20
        assert issued.set_cookie is not None
        assert issued.set_cookie.startswith(f"pratique_affinity={'k' * 20}; Path=/;")
        assert issued.set_cookie.endswith("Secure")

    @pytest.mark.parametrize("bad", ["", "short", "x" * 65, "with space", "a\r\nset-cookie: x", "é" * 10])
    def test_a_malformed_affinity_key_is_replaced(self, bad: str) -> None:
        assert affinity({AFFINITY_HEADER: bad}).key != bad
