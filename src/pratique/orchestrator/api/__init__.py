"""The transports: WebSocket, SSE and JSON over one service, the OpenAI proxy, the page, health.

`service` is what the chat does for a principal, whatever the transport; `stream` sends events to one client;
`websocket`, `sse` and `chat` speak the transports; `guard` decides who comes in; `application` puts it together.
"""

__all__: list[str] = []
