"""Which variant takes a call."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.inference.sagemaker.endpoints import InvalidEndpointError, parse_endpoints
from pratique.inference.sagemaker.faults import FaultError

pytestmark = pytest.mark.unit

URL = "http://127.0.0.1:8081"


def test_a_plain_endpoint_has_one_variant() -> None:
    endpoints = parse_endpoints([f"chat={URL}/"])
    variant = endpoints.choose("chat")
    assert (variant.name, variant.url, variant.weight) == ("AllTraffic", URL, 1.0)
    assert endpoints.variants == (variant,)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any))
def test_every_round_is_shared_exactly_by_weight(weights: list[int]) -> None:
    specs = [f"chat/v{number}:{weight}={URL}" for number, weight in enumerate(weights)]
    endpoints = parse_endpoints(specs)
    for _ in range(2):
        taken = Counter(endpoints.choose("chat").name for _ in range(sum(weights)))
        assert [taken[f"v{number}"] for number in range(len(weights))] == weights


def test_calls_of_a_small_variant_are_spread_among_the_others() -> None:
    endpoints = parse_endpoints([f"chat/blue:2={URL}", f"chat/green:1={URL}"])
    assert [endpoints.choose("chat").name for _ in range(6)] == ["blue", "green", "blue"] * 2


def test_endpoints_do_not_take_each_others_turns() -> None:
    specs = [f"{endpoint}/{name}={URL}" for endpoint in "ab" for name in ("one", "two")]
    endpoints = parse_endpoints(specs)
    assert [endpoints.choose(name).name for name in "abab"] == ["one", "one", "two", "two"]


def test_a_variant_of_weight_0_is_only_reached_by_name() -> None:
    endpoints = parse_endpoints([f"chat/live={URL}", f"chat/shadow:0={URL}"])
    assert {endpoints.choose("chat").name for _ in range(5)} == {"live"}
    assert endpoints.choose("chat", "shadow").name == "shadow"


def test_nobody_takes_traffic_where_all_weights_are_0() -> None:
    with pytest.raises(FaultError) as caught:
        parse_endpoints([f"chat/a:0={URL}"]).choose("chat")
    assert caught.value.kind == "ServiceUnavailable"


def test_an_unknown_endpoint_is_named_as_sagemaker_does() -> None:
    with pytest.raises(FaultError, match=r"^Endpoint other of account 0{12} not found\.$") as caught:
        parse_endpoints([f"chat={URL}"]).choose("other")
    assert (caught.value.kind, caught.value.status) == ("ValidationError", 400)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(FaultError, match="Variant red not found for endpoint chat; it has: AllTraffic"):
        parse_endpoints([f"chat={URL}"]).choose("chat", "red")


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "chat",
        "=http://a",
        "chat=",
        "chat=ftp://a",
        "chat=http://",
        "chat=http://a:x",
        "chat=http://a:99999",
        "chat=http://[::1",
        "chat=http://u:p@a",
        "chat=http://a?q=1",
        "chat=http://a#f",
        "-chat=http://a",
        "chat-=http://a",
        "ch_at=http://a",
        "チャット=http://a",
        "chat/=http://a",
        "chat/a:-1=http://a",
        "chat/a:x=http://a",
        "chat/a/b=http://a",
        "a" * 64 + "=http://a",
        "chat/" + "a" * 64 + "=http://a",
    ],
)
def test_what_is_no_endpoint_is_refused(spec: str) -> None:
    with pytest.raises(InvalidEndpointError) as caught:
        parse_endpoints([spec])
    assert caught.value.exit_code == 2


def test_none_and_doubles_are_refused() -> None:
    with pytest.raises(InvalidEndpointError, match="No endpoint"):
        parse_endpoints([])
    with pytest.raises(InvalidEndpointError, match="'AllTraffic' twice"):
        parse_endpoints([f"chat={URL}", f"chat={URL}/2"])
