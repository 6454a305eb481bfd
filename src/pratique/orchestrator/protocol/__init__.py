"""The chat protocol, version 1: one set of frames and events over WebSocket, SSE and JSON.

`frames` is what clients send, `events` what they receive, `schema` publishes both as JSON Schema and AsyncAPI/OpenAPI,
`parse` reads a frame from bytes and turns every mistake in it into a typed error event.
"""

__all__: list[str] = []
