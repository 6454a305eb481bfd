"""Bearer tokens of other issuers: the attacks first, then the issuer's absence, then what a good one is worth."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from pratique.core.metrics import Metrics
from pratique.core.settings import SettingsError
from pratique.orchestrator.access import KeysUnavailableError, PrincipalKind, Scope, UnauthenticatedError
from pratique.orchestrator.access.oidc.claims import principal_id_of, principal_of_claims
from pratique.orchestrator.access.oidc.keys import parse_key_set
from pratique.orchestrator.access.oidc.source import verify_url
from pratique.orchestrator.access.oidc.token import MAX_TOKEN_CHARACTERS, is_token, parse_object, parse_token
from pratique.orchestrator.access.oidc.verifier import MissingPackageError, TokenVerifier
from pratique.orchestrator.access.settings import OidcSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pratique.core.clock import ManualClock

pytestmark = pytest.mark.unit

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
AUDIENCE = "pratique"
Claims = dict[str, Any]
ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.text(max_size=9))


def public(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    algorithm: Any = OKPAlgorithm
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = RSAAlgorithm
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = ECAlgorithm
    found: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    return found | ({"kid": kid} if kid else {}) | more


def encoded(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Issuer:
    """An identity provider in this process."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[dict[str, Any]] = [public(RSA_KEY, "one")]
        self.num_fetches = 0
        self.answer: web.Response | None = None
        self.hangs = False
        self.says: dict[str, Any] = {}
        self._released = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Issuer]:
        application = web.Application()
        application.router.add_get("/.well-known/openid-configuration", self._discovery)
        application.router.add_get("/keys", self._keys)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self._released.set()
            await runner.cleanup()

    async def _discovery(self, _: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.says})

    async def _keys(self, _: web.Request) -> web.StreamResponse:
        self.num_fetches += 1
        if self.hangs:
            await self._released.wait()
        if self.answer is not None:
            return web.Response(status=self.answer.status, body=self.answer.body, headers=self.answer.headers)
        return web.json_response({"keys": self.keys})


class World:
    """An issuer, and our verifier of its tokens."""

    def __init__(self, issuer: Issuer, http: aiohttp.ClientSession, clock: ManualClock) -> None:
        self.issuer = issuer
        self.clock = clock
        self._http = http
        self._made: list[TokenVerifier] = []
        self.verifier = self.trusting()

    def trusting(self, **more: Any) -> TokenVerifier:
        base: dict[str, Any] = {"issuer": self.issuer.url, "audiences": (AUDIENCE,), "timeout_seconds": 10.0}
        self.verifier = TokenVerifier(
            [OidcSettings(**{**base, **more})], self._http, clock=self.clock, metrics=Metrics()
        )
        self._made.append(self.verifier)
        return self.verifier

    def claims(self, **more: Any) -> Claims:
        now = int(self.clock.epoch())
        base = {"iss": self.issuer.url, "aud": AUDIENCE, "sub": "alice", "exp": now + 300, "iat": now, "scope": "chat"}
        return {name: value for name, value in (base | more).items() if value is not None}

    def token(self, key: Any = RSA_KEY, alg: str = "RS256", kid: str | None = "one", **more: Any) -> str:
        headers = {"kid": kid} if kid else {}
        return jwt.encode(self.claims(**more), key, algorithm=alg, headers=headers)

    async def verify(self, token: str) -> Any:
        await self.verifier.prepare(token)
        return self.verifier.verify(token)

    async def refuses(self, token: str) -> None:
        with pytest.raises(UnauthenticatedError) as refused:
            await self.verify(token)
        assert refused.value.message == "The token does not hold."

    async def aclose(self) -> None:
        for verifier in self._made:
            await verifier.aclose()


@pytest.fixture
async def world(clock: ManualClock) -> AsyncIterator[World]:
    async with Issuer().running() as issuer, aiohttp.ClientSession() as http:
        made = World(issuer, http, clock)
        yield made
        await made.aclose()


class TestForgedTokens:
    @pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 5, ["RS256"]])
    async def test_an_unsigned_token_is_refused(self, world: World, alg: object) -> None:
        head = {"alg": alg, "kid": "one"} if alg is not None else {"kid": "one"}
        for signature in ("", encoded(b"x")):
            await world.refuses(f"{encoded(head)}.{encoded(world.claims())}.{signature}")

    async def test_the_public_key_is_not_taken_for_a_secret(self, world: World) -> None:
        pem = RSA_KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        signing = f"{encoded({'alg': 'HS256', 'kid': 'one'})}.{encoded(world.claims())}"
        for secret in (pem, pem.strip(), json.dumps(public(RSA_KEY, "one")).encode(), b""):
            await world.refuses(f"{signing}.{encoded(hmac.new(secret, signing.encode(), hashlib.sha256).digest())}")

    async def test_a_shared_secret_among_the_issuers_keys_is_left_out(self, world: World) -> None:
        world.issuer.keys.append({"kty": "oct", "k": encoded(b"s" * 32), "kid": "two", "alg": "HS256"})
        await world.refuses(jwt.encode(world.claims(), b"s" * 32, algorithm="HS256", headers={"kid": "two"}))

    async def test_an_algorithm_that_is_not_allowed_is_refused_with_the_right_key(self, world: World) -> None:
        await world.refuses(world.token(alg="PS256"))
        world.trusting(algorithms=("PS256",))
        assert (await world.verify(world.token(alg="PS256"))).scopes == {Scope.CHAT}

    async def test_another_key_under_a_known_name_is_refused(self, world: World) -> None:
        await world.refuses(world.token(OTHER_KEY))

    async def test_a_key_for_another_algorithm_or_use_is_not_used(self, world: World) -> None:
        world.issuer.keys = [public(RSA_KEY, "one", alg="RS512"), public(OTHER_KEY, "two", use="enc")]
        await world.refuses(world.token())
        world.issuer.keys = [public(OTHER_KEY, "two")]
        await world.refuses(world.token(OTHER_KEY, kid="two", aud="other"))

    @pytest.mark.parametrize(
        "more",
        [
            {"crit": ["exp"]},
            {"b64": False},
            {"jwk": public(OTHER_KEY, "one")},
            {"jku": "https://evil.example"},
            {"x5u": "https://evil.example"},
            {"x5c": ["a"]},
            {"typ": "logout+jwt"},
            {"typ": "dpop+jwt"},
            {"kid": 5},
            {"kid": ""},
            {"kid": "k" * 257},
        ],
    )
    async def test_a_header_that_asks_for_more_is_refused(self, world: World, more: dict[str, Any]) -> None:
        signing = f"{encoded({'alg': 'RS256', 'kid': 'one'} | more)}.{encoded(world.claims())}"
        signature = jwt.get_algorithm_by_name("RS256").sign(signing.encode(), RSA_KEY)
        await world.refuses(f"{signing}.{encoded(signature)}")

    async def test_json_that_names_a_key_twice_is_refused(self, world: World) -> None:
        claims = json.dumps(world.claims())
        twice = claims[:-1] + ', "sub": "mallory"}'
        signing = f"{encoded({'alg': 'RS256', 'kid': 'one'})}.{encoded(twice.encode())}"
        signature = jwt.get_algorithm_by_name("RS256").sign(signing.encode(), RSA_KEY)
        await world.refuses(f"{signing}.{encoded(signature)}")
        for nested in (b'{"a": {"b": 1, "b": 2}}', b'{"a": NaN}', b"[]", b"\xff", b"[" * 100_000):
            with pytest.raises(UnauthenticatedError):
                parse_object(nested)

    async def test_a_changed_or_shortened_or_lengthened_token_is_refused(self, world: World) -> None:
        token = world.token()
        head, claims, signature = token.split(".")
        for changed in (
            f"{head}.{encoded(world.claims(sub='mallory'))}.{signature}",
            f"{head}.{claims}.{signature[:-4]}",
            f"{head}.{claims}.{signature}AAAA",
            f"{head}.{claims}",
            f"{head}.{claims}.{signature}.",
            f"{token}=",
            f" {token}",
            f"{token}\n",
            "..",
            "a.b.c",
            f"{encoded([])}.{claims}.{signature}",
        ):
            await world.refuses(changed)
        assert not is_token(token + ".")

    async def test_a_huge_token_is_refused_before_it_is_read(self, world: World) -> None:
        await world.refuses(world.token(more="x" * MAX_TOKEN_CHARACTERS))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"aud": "other"},
            {"aud": ["other"]},
            {"aud": None},
            {"aud": 5},
            {"iss": "https://evil.example"},
            {"iss": None},
            {"iss": 5},
            {"sub": None},
            {"sub": ""},
            {"sub": "s" * 256},
            {"exp": None},
            {"exp": 1},
            {"exp": "9999999999"},
            {"exp": True},
            {"exp": [1]},
            {"nbf": 9_999_999_999},
            {"nbf": "soon"},
            {"iat": 9_999_999_999},
        ],
    )
    async def test_a_signed_token_that_is_not_for_us_now_is_refused(self, world: World, wrong: Claims) -> None:
        signing = f"{encoded({'alg': 'RS256', 'kid': 'one'})}.{encoded(world.claims(**wrong))}"
        signature = jwt.get_algorithm_by_name("RS256").sign(signing.encode(), RSA_KEY)
        await world.refuses(f"{signing}.{encoded(signature)}")

    async def test_the_issuers_name_is_compared_to_the_letter(self, world: World) -> None:
        for near in (world.issuer.url + "/", world.issuer.url.upper(), world.issuer.url[:-1]):
            await world.refuses(world.token(iss=near))
        assert world.issuer.num_fetches == 0

    async def test_a_token_of_one_issuer_is_not_signed_by_another(self, world: World, clock: ManualClock) -> None:
        async with Issuer().running() as second, aiohttp.ClientSession() as http:
            second.keys = [public(OTHER_KEY, "one")]
            trusted = [OidcSettings(issuer=one.url, audiences=(AUDIENCE,)) for one in (world.issuer, second)]
            verifier = TokenVerifier(trusted, http, clock=clock, metrics=Metrics())
            mine, theirs = world.token(), world.token(OTHER_KEY, iss=second.url)
            for token in (mine, theirs, crossed := world.token(OTHER_KEY)):
                await verifier.prepare(token)
            assert verifier.verify(mine).principal_id != verifier.verify(theirs).principal_id
            with pytest.raises(UnauthenticatedError):
                verifier.verify(crossed)
            await verifier.aclose()


class TestTheIssuersKeys:
    async def test_without_keys_nobody_is_let_in(self, world: World) -> None:
        world.issuer.answer = web.Response(status=500)
        for _ in range(3):
            with pytest.raises(KeysUnavailableError):
                await world.verify(world.token())
        assert world.issuer.num_fetches == 1
        world.issuer.answer = None
        await world.clock.advance(2)
        assert (await world.verify(world.token())).kind is PrincipalKind.TOKEN

    async def test_an_issuer_that_hangs_costs_one_deadline_for_all(self, world: World) -> None:
        world.trusting(timeout_seconds=0.3)
        world.issuer.hangs = True
        results = await asyncio.gather(*(world.verify(world.token()) for _ in range(20)), return_exceptions=True)
        assert all(isinstance(result, KeysUnavailableError) for result in results)
        assert world.issuer.num_fetches == 1

    async def test_known_keys_outlive_the_issuers_absence_up_to_the_limit(self, world: World) -> None:
        world.trusting(keep_seconds=3600)
        await world.verify(world.token())
        world.issuer.answer = web.Response(status=503)
        await world.clock.advance(3000)
        assert await world.verify(world.token())
        await world.clock.advance(601)
        with pytest.raises(KeysUnavailableError):
            await world.verify(world.token())

    async def test_tokens_with_unknown_keys_do_not_make_us_ask_without_end(self, world: World) -> None:
        await world.verify(world.token())
        await world.clock.advance(20)
        for number in range(50):
            await world.refuses(world.token(OTHER_KEY, kid=f"made-up-{number}"))
        assert world.issuer.num_fetches == 2

    async def test_a_new_key_is_found_when_a_token_names_it(self, world: World) -> None:
        await world.verify(world.token())
        world.issuer.keys = [public(OTHER_KEY, "two")]
        await world.refuses(world.token(OTHER_KEY, kid="two"))
        await world.clock.advance(15)
        assert await world.verify(world.token(OTHER_KEY, kid="two"))
        await world.refuses(world.token())

    async def test_old_keys_are_asked_for_again_while_they_serve(self, world: World) -> None:
        await world.verify(world.token())
        await world.clock.advance(700)
        world.issuer.keys.append(public(OTHER_KEY, "two"))
        assert await world.verify(world.token())
        for _ in range(100):
            if world.issuer.num_fetches == 2:
                break
            await asyncio.sleep(0.01)
        assert world.issuer.num_fetches == 2

    @pytest.mark.parametrize(
        "answer",
        [
            web.Response(body=b"x"),
            web.Response(body=b"[]"),
            web.Response(body=b'{"keys": 5}'),
            web.Response(body=b'{"keys": []}'),
            web.Response(body=b'{"keys": [5, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}, {"kty": "EC", "crv": "P-9"}]}'),
            web.Response(body=b" " * 600_000),
            web.Response(status=302, headers={"location": "/.well-known/openid-configuration"}),
        ],
    )
    async def test_an_answer_that_holds_no_keys_is_none(self, world: World, answer: web.Response) -> None:
        world.issuer.answer = answer
        with pytest.raises(KeysUnavailableError):
            await world.verify(world.token())

    @pytest.mark.parametrize(
        "says", [{"issuer": "https://evil.example"}, {"jwks_uri": "http://evil.example/keys"}, {"jwks_uri": None}]
    )
    async def test_an_issuer_that_says_something_else_of_itself_is_not_believed(
        self, world: World, says: dict[str, Any]
    ) -> None:
        world.issuer.says = says
        with pytest.raises(KeysUnavailableError):
            await world.verify(world.token())

    async def test_a_keys_address_may_be_named_instead_of_discovered(self, world: World) -> None:
        world.trusting(jwks_url=f"{world.issuer.url}/keys")
        world.issuer.says = {"issuer": "https://other.example"}
        assert await world.verify(world.token())

    def test_weak_and_private_use_keys_are_left_out(self) -> None:
        small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that it is weak is the point
        keys = [public(small, "small"), public(RSA_KEY, "sign", key_ops=["sign"]), public(RSA_KEY, "one")]
        assert len(parse_key_set(json.dumps({"keys": keys}).encode(), origin="test")) == 1

    @pytest.mark.parametrize("url", ["http://login.example.org", "ftp://localhost", "login", "https://", "http://[::1"])
    def test_an_address_that_others_could_answer_is_refused_at_start(self, url: str) -> None:
        with pytest.raises(SettingsError):
            verify_url(url, setting="issuer")

    def test_a_key_that_cannot_be_read_is_left_out(self) -> None:
        keys = [public(RSA_KEY, "bad", e="!"), public(RSA_KEY, "worse", key_ops=5), public(RSA_KEY, "one")]
        assert len(parse_key_set(json.dumps({"keys": keys}).encode(), origin="test")) == 1

    async def test_without_the_package_it_is_said_how_to_get_it(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "jwt", None)
        with pytest.raises(MissingPackageError, match="jwt") as missing:
            world.trusting()
        assert "pratique[orchestrator]" in (missing.value.hint or "")

    async def test_an_issuer_named_twice_is_refused_at_start(self, world: World) -> None:
        one = OidcSettings(issuer="https://a.example", audiences=("x",))
        with pytest.raises(SettingsError, match="twice"):
            TokenVerifier([one, one], world._http, clock=world.clock, metrics=Metrics())


class TestRememberedSignatures:
    async def test_a_signature_that_held_is_not_computed_again_and_the_claims_still_are(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = world.token()
        await world.verify(token)

        def fail(*_: object) -> None:
            raise AssertionError("The signature is computed again.")

        monkeypatch.setattr(jwt.PyJWS, "decode_complete", fail)
        await world.verify(token)
        with pytest.raises(AssertionError):
            await world.verify(world.token(jti="other"))
        monkeypatch.undo()
        # Nobody else's token is let in by it, and it still ends.
        await world.refuses(token.rpartition(".")[0] + "." + world.token(OTHER_KEY).rpartition(".")[2])
        await world.clock.advance(331)
        await world.refuses(token)

    async def test_a_key_that_is_withdrawn_takes_its_tokens_with_it(self, world: World) -> None:
        token = world.token(exp=int(world.clock.epoch()) + 9000)
        await world.verify(token)
        world.issuer.keys = [public(OTHER_KEY, "two")]
        await world.clock.advance(15)
        await world.verify(world.token(OTHER_KEY, kid="two"))
        await world.refuses(token)

    def test_what_is_remembered_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pratique.orchestrator.access.oidc.keys._MAX_VERIFIED", 3)
        keys = parse_key_set(json.dumps({"keys": [public(EC_KEY, None)]}).encode(), origin="test")
        for number in range(10):
            keys.verify(parse_token(jwt.encode({"iss": f"a{number}"}, EC_KEY, algorithm="ES256")))
        assert len(keys._verified) == 3


class TestGoodTokens:
    @pytest.mark.parametrize(("key", "alg"), [(RSA_KEY, "RS256"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")])
    async def test_each_kind_of_key_verifies(self, world: World, key: Any, alg: Any) -> None:
        world.trusting(algorithms=(alg,))
        world.issuer.keys = [public(key, None)]
        assert await world.verify(world.token(key, alg, kid=None))

    async def test_the_principal_is_stable_and_says_nothing_of_the_person(self, world: World) -> None:
        first, again = await world.verify(world.token()), await world.verify(world.token(jti="other"))
        other = await world.verify(world.token(sub="bob"))
        assert first.principal_id == again.principal_id != other.principal_id
        assert first.expires_at == int(world.clock.epoch()) + 300 + 30
        assert "alice" not in repr(first)
        assert world.issuer.url not in repr(first)
        assert first.principal_id.startswith("oidc_")
        assert len(first.principal_id) <= 64

    def test_issuer_and_subject_cannot_be_shifted_into_each_other(self) -> None:
        assert principal_id_of("https://a", "b\0c") != principal_id_of("https://a\0b", "c")

    async def test_clocks_may_differ_by_the_leeway(self, world: World) -> None:
        now = int(world.clock.epoch())
        assert await world.verify(world.token(exp=now - 29, nbf=now + 30, iat=now + 30))
        await world.refuses(world.token(exp=now - 30))
        await world.refuses(world.token(nbf=now + 31))

    @pytest.mark.parametrize(
        ("settings", "claims", "scopes"),
        [
            ({}, {"scope": "openid chat openai"}, {Scope.CHAT, Scope.OPENAI}),
            ({}, {"scope": "email"}, set()),
            ({}, {"scope": None}, set()),
            ({}, {"scope": {"chat": True}}, set()),
            ({}, {"scope": ["admin", 5]}, {Scope.ADMIN}),
            ({"scope_claim": "scp"}, {"scp": "chat", "scope": "admin"}, {Scope.CHAT}),
            ({"scopes": {"Chat.Use": (Scope.CHAT, Scope.OPENAI)}}, {"scope": "Chat.Use"}, {Scope.CHAT, Scope.OPENAI}),
            ({"scopes": {"Chat.Use": (Scope.CHAT,)}}, {"scope": "chat admin"}, set()),
            ({"default_scopes": (Scope.CHAT,)}, {"scope": "email"}, {Scope.CHAT}),
        ],
    )
    async def test_scopes_are_those_that_were_mapped(
        self, world: World, settings: dict[str, Any], claims: Claims, scopes: set[Scope]
    ) -> None:
        world.trusting(**settings)
        assert (await world.verify(world.token(**claims))).scopes == scopes

    async def test_a_list_of_audiences_with_ours_in_it_is_for_us(self, world: World) -> None:
        assert await world.verify(world.token(aud=["other", AUDIENCE], typ="x"))


@settings(max_examples=50, deadline=None)
@given(st.one_of(st.text(max_size=100), st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,9}")))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    with contextlib.suppress(UnauthenticatedError):
        parse_token(text)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "scope"]), ANY))
def test_any_claims_are_a_principal_or_refused(claims: Claims) -> None:
    try:
        principal_of_claims(claims, OidcSettings(issuer="https://a", audiences=("x",)), now=1e9)
    except UnauthenticatedError:
        return
