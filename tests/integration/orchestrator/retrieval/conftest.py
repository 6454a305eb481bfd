"""OpenSearch's HTTP API, as much of it as the retriever uses, in memory: for where no cluster can be had.

It keeps the rules that the retriever relies on: nothing is found before a refresh, unknown fields are refused
(`dynamic: strict`), aliases move in one request, `minimum_should_match` counts words over all fields of a
`cross_fields` query and rounds down. It ranks by how often words occur, the title's more; real scores differ.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_WORD = re.compile(r"[a-z0-9]+|[\u3040-\u30ff]+|[\u4e00-\u9fff]{1,2}")


class FakeOpenSearch:
    """One cluster."""

    def __init__(self) -> None:
        self.indices: dict[str, dict[str, Any]] = {}
        self.documents: dict[str, list[dict[str, Any]]] = {}
        self.searched: dict[str, list[dict[str, Any]]] = {}
        self.aliases: dict[str, set[str]] = {}
        self.plugins: list[str] = []
        self.searches: list[dict[str, Any]] = []
        self.refuses_bulk = False
        self.loses_moves = False
        """Aliases are moved, and nobody is told."""

    def application(self) -> web.Application:
        application = web.Application()
        application.add_routes(
            [
                web.get("/_cat/plugins", self._plugins),
                web.post("/_aliases", self._move),
                web.get("/_alias/{name}", self._alias),
                web.post("/_bulk", self._bulk),
                web.post("/{name}/_refresh", self._refresh),
                web.post("/{name}/_search", self._search),
                web.put("/{name}", self._create),
                web.get("/{name}", self._exists),
                web.delete("/{name}", self._delete),
            ]
        )
        return application

    async def _plugins(self, _: web.Request) -> web.Response:
        return web.json_response([{"name": "node", "component": name} for name in self.plugins])

    async def _create(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.indices[name] = await request.json()
        self.documents[name] = []
        return web.json_response({"acknowledged": True, "index": name})

    async def _exists(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return web.Response(status=200 if name in self.indices or name in self.aliases else 404)

    async def _delete(self, request: web.Request) -> web.Response:
        self._remove(request.match_info["name"])
        return web.json_response({"acknowledged": True})

    async def _alias(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.aliases:
            return web.json_response({"error": f"alias [{name}] missing", "status": 404}, status=404)
        return web.json_response({index: {"aliases": {name: {}}} for index in self.aliases[name]})

    async def _move(self, request: web.Request) -> web.Response:
        for action in (await request.json())["actions"]:
            for verb, what in action.items():
                if verb == "remove_index":
                    self._remove(what["index"])
                else:
                    self.aliases.setdefault(what["alias"], set()).add(what["index"])
        if self.loses_moves and request.transport is not None:
            request.transport.close()
        return web.json_response({"acknowledged": True})

    async def _bulk(self, request: web.Request) -> web.Response:
        lines = [json.loads(line) for line in (await request.text()).splitlines()]
        items = []
        for action, body in zip(lines[::2], lines[1::2], strict=True):
            name = action["index"]["_index"]
            fields = self.indices[name]["mappings"]["properties"]
            if self.refuses_bulk or not set(body) <= set(fields):
                error = {"type": "strict_dynamic_mapping_exception", "reason": "a field is not allowed"}
                items.append({"index": {"_index": name, "status": 400, "error": error}})
                continue
            self.documents[name].append(body)
            items.append({"index": {"_index": name, "status": 201}})
        return web.json_response({"errors": any("error" in each["index"] for each in items), "items": items})

    async def _refresh(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.searched[name] = list(self.documents[name])
        return web.json_response({"_shards": {"failed": 0}})

    async def _search(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        names = self.aliases.get(name, {name} if name in self.indices else set())
        if not names:
            error = {"type": "index_not_found_exception", "reason": f"no such index [{name}]"}
            return web.json_response({"error": error, "status": 404}, status=404)
        body = await request.json()
        self.searches.append(body)
        match = body["query"]["multi_match"]
        assert match["type"] == "cross_fields"
        words = set(_words(match["query"])) - self._stop_words(next(iter(names)))
        needed = max(1, len(words) * int(match["minimum_should_match"].rstrip("%")) // 100)
        hits: list[dict[str, Any]] = []
        for document in (each for index in names for each in self.searched.get(index, ())):
            title, text = _words(document["title"]), _words(document["text"])
            if len(words & {*title, *text}) >= needed and words:
                score = float(sum(2 * title.count(word) + text.count(word) for word in words))
                hits.append({"_score": score, "_source": {key: document[key] for key in body["_source"]}})
        hits.sort(key=lambda hit: float(hit["_score"]), reverse=True)
        return web.json_response({"took": 1, "timed_out": False, "hits": {"hits": hits[: body["size"]]}})

    def _stop_words(self, index: str) -> set[str]:
        return set(self.indices[index]["settings"]["analysis"]["filter"]["pratique_stop"]["stopwords"])

    def _remove(self, index: str) -> None:
        for found in (self.indices, self.documents, self.searched):
            found.pop(index, None)
        for alias in list(self.aliases):
            self.aliases[alias].discard(index)
            if not self.aliases[alias]:
                del self.aliases[alias]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


@pytest.fixture
def fake() -> FakeOpenSearch:
    return FakeOpenSearch()


@pytest.fixture
async def fake_url(fake: FakeOpenSearch) -> AsyncIterator[str]:
    runner = web.AppRunner(fake.application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
