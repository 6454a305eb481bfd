"""Field bug: a field changed its type from one document to the next, and the index refused it.

The naive code indexes products as the shop sends them: a price is 980, and once in a while "on request". A mock keeps
whatever it is given. OpenSearch gives a field its type with the first document and refuses one that does not fit, so
the product is missing from the search. The fix gives each field one type before it is sent.

Against OpenSearch in a container or by URL (`--pratique-opensearch=URL`); it is skipped where neither is there. The
recorded exchange, which runs everywhere, is checked against the real server whenever there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import pytest

from pratique.testkit.recording import ReplayServer, ask_again, drift, load_recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pratique.testkit import OpenSearchEndpoint, OpenSearchNamespace

pytestmark = [pytest.mark.integration, pytest.mark.fast]

PRODUCTS: tuple[dict[str, Any], ...] = (
    {"title": "volume 1", "price": 980},
    {"title": "volume 2", "price": "on request"},
)
RECORDING = Path(__file__).with_name("field_type.json")
RECORDED_INDEX = "pqfieldbug-products"


class Search(Protocol):
    """The call that the code uses of opensearch-py."""

    def index(self, *, index: str, id: str, body: dict[str, Any]) -> dict[str, Any]: ...  # noqa: A002 - its name


class MockSearch:
    """What such mocks look like: a dict."""

    def __init__(self) -> None:
        self._documents: dict[str, dict[str, Any]] = {}

    def index(self, *, index: str, id: str, body: dict[str, Any]) -> dict[str, Any]:  # noqa: A002 - its name
        self._documents[f"{index}/{id}"] = body
        return {"result": "created"}


# The code under test.


def document_naively(product: dict[str, Any]) -> dict[str, Any]:
    return product


def document(product: dict[str, Any]) -> dict[str, Any]:
    """A price is a number or nothing; what else the shop says of it goes into a field of its own."""
    price = product["price"]
    is_number = isinstance(price, int)
    return {**product, "price": price if is_number else None, "price_note": None if is_number else price}


# The tests.


def check(search: Search, index: str, document: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The one test that somebody wrote."""
    for number, product in enumerate(PRODUCTS, start=1):
        assert search.index(index=index, id=str(number), body=document(product))["result"] == "created"


def client_for(url: str) -> Any:
    opensearch = pytest.importorskip("opensearchpy", reason='the client: pip install "pratique[testkit-opensearch]"')
    return opensearch.OpenSearch(hosts=[url], max_retries=0, timeout=10)


@pytest.fixture(params=["naive", "fixed"])
def recorded(request: pytest.FixtureRequest) -> Iterator[str]:
    """The half of the recording that is about this code, served on the loopback address."""
    whole = load_recording(RECORDING)
    middle = len(whole.exchanges) // 2
    half = whole.exchanges[:middle] if request.param == "naive" else whole.exchanges[middle:]
    with ReplayServer(msgspec.structs.replace(whole, exchanges=half)) as server:
        yield server.url


@pytest.fixture
def real(opensearch: OpenSearchNamespace) -> tuple[Search, str]:
    client: Any = opensearch.client()
    return client, opensearch.index("products")


def test_the_naive_code_passes_on_a_mock() -> None:
    check(MockSearch(), "products", document_naively)


@pytest.mark.parametrize("recorded", ["naive"], indirect=True)
def test_the_naive_code_fails_on_what_a_real_index_answers(recorded: str) -> None:
    with client_for(recorded) as client:
        client.indices.create(index=RECORDED_INDEX, body={"settings": {"number_of_replicas": 0}})
        with pytest.raises(Exception, match="failed to parse field") as refused:
            check(client, RECORDED_INDEX, document_naively)
    assert type(refused.value).__name__ == "RequestError"


@pytest.mark.needs("mapping_conflicts")
def test_the_naive_code_fails_on_a_real_index(real: tuple[Search, str]) -> None:
    with pytest.raises(Exception, match="failed to parse field"):
        check(*real, document_naively)


def test_the_fix_passes_on_a_mock() -> None:
    check(MockSearch(), "products", document)


@pytest.mark.parametrize("recorded", ["fixed"], indirect=True)
def test_the_fix_passes_on_what_a_real_index_answers(recorded: str) -> None:
    with client_for(recorded) as client:
        client.indices.create(index=RECORDED_INDEX, body={"settings": {"number_of_replicas": 0}})
        check(client, RECORDED_INDEX, document)


@pytest.mark.needs("mapping_conflicts")
def test_the_fix_passes_on_a_real_index(real: tuple[Search, str]) -> None:
    check(*real, document)


def test_a_real_server_still_answers_as_recorded(pratique_opensearch: OpenSearchEndpoint) -> None:
    recorded = load_recording(RECORDING)
    now = ask_again(recorded, pratique_opensearch.url, version=pratique_opensearch.version, how="this test")
    assert not drift(recorded, now)
