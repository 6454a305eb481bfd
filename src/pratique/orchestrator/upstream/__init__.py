"""The way to the model servers: one request per attempt at a reply, streamed, with deadlines.

`interface` is the axis, `http` speaks to a real server, `scripted` plays one, `deadlines` adds the time-outs that hold
for both, `history` turns a conversation into a request, `poller` asks the servers for their state.
"""

__all__: list[str] = []
