"""A model server out of a script, fast enough not to be what is measured: one bare protocol over httptools.

A process of its own: `python -m benchmarks._gateway.upstream`, which prints its port. It answers

- POST /v1/…          one JSON answer of about 500 bytes, or with `"stream": true` an SSE stream: `max_tokens` chunks,
                      the first at once, then one every `seed` milliseconds;
- POST /invocations   the same stream in the words of our own contract; the pace is the number in the query;
- GET                 200 and what the gateways look for: models, health, status.

Chunk n says "wn ", so that whoever counts sees what was lost.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, cast

import httptools
import uvloop

__all__ = ["main"]

_MAX_TOKENS: Final = re.compile(rb'"max_tokens":\s*(\d+)')
_SEED: Final = re.compile(rb'"seed":\s*(\d+)')
_QUERY: Final = re.compile(rb'"query":\s*"(\d+)')
_STREAM: Final = re.compile(rb'"stream":\s*true')
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
_OPENAI: Final = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"bench","choices":'
    b'[{"index":0,"delta":{"content":"w%d "},"logprobs":null,"finish_reason":null}]}\n\n'
)
_OPENAI_END: Final = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"bench","choices":'
    b'[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
_OURS_START: Final = b'event: start\ndata: {"model":"bench","prompt_tokens":8}\n\n'
_OURS: Final = b'event: token\ndata: {"text":"w%d "}\n\n'
_OURS_END: Final = b'event: end\ndata: {"finish_reason":"stop","prompt_tokens":8,"completion_tokens":%d}\n\n'
_ANSWER: Final = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1790000000,"model":"bench","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"' + b"word " * 50 + b'"},"logprobs":null,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":8,"completion_tokens":50,"total_tokens":58}}'
)
_MODELS: Final = b'{"object":"list","data":[{"id":"bench","object":"model","created":1790000000,"owned_by":"bench"}]}'
_STATUS: Final = b'{"schema_version":1,"name":"bench","state":"traffic_ready","detail":"","status":"ok"}'


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's classes

    def connection_lost(self, _: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        self._url, self._body = b"", b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"GET":
            self._answer(_MODELS if b"/models" in self._url else _STATUS)
        elif self._url.startswith(b"/invocations"):
            self._stream(_OURS, _int(_QUERY, self._body), first=_OURS_START, last=_OURS_END)
        elif _STREAM.search(self._body):
            self._stream(_OPENAI, _int(_SEED, self._body), first=b"", last=_OPENAI_END)
        else:
            self._answer(_ANSWER)

    def _answer(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)

    def _stream(self, piece: bytes, milliseconds: int, *, first: bytes, last: bytes) -> None:
        num_chunks = _int(_MAX_TOKENS, self._body)
        loop = asyncio.get_running_loop()
        due = loop.time()

        def send(number: int) -> None:
            if number == num_chunks:
                self._timer = None
                end = last % num_chunks if b"%d" in last else last
                self._transport.write(_chunk(end) + b"0\r\n\r\n")
                return
            self._transport.write(_chunk(piece % number))
            self._timer = loop.call_at(due + (number + 1) * milliseconds / 1e3, send, number + 1)

        self._transport.write(_HEAD + (_chunk(first) if first else b""))
        send(0)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _int(pattern: re.Pattern[bytes], body: bytes) -> int:
    found = pattern.search(body)
    return int(found[1]) if found else 1


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())


if __name__ == "__main__":
    main()
