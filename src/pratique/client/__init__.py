"""The Python client of the chat service: streams replies, reconnects and resumes by itself.

```python
async with ChatClient("http://127.0.0.1:8080", api_key=key) as chat:
    async for event in chat.send("What is the capital of France?"):
        if isinstance(event, Token):
            print(event.text, end="", flush=True)
```
"""

from pratique.client._client import ChatClient
from pratique.client._link import TransportKind
from pratique.client._reply import Reconnecting, Replaced, Reply, ReplyEvent, Resumed
from pratique.client._stream import ReplyStream
from pratique.client._wire import (
    Accepted,
    Continued,
    Conversation,
    ConversationPage,
    ConversationSummary,
    Ended,
    EventError,
    FinishReason,
    ModelReplica,
    ModelState,
    ModelStatus,
    ReplyDetails,
    Role,
    Route,
    ServerStatus,
    Session,
    Source,
    Started,
    Token,
    Turn,
    TurnStatus,
    Usage,
)
from pratique.client.errors import ClientError
from pratique.client.settings import ClientSettings

__all__ = [
    "Accepted",
    "ChatClient",
    "ClientError",
    "ClientSettings",
    "Continued",
    "Conversation",
    "ConversationPage",
    "ConversationSummary",
    "Ended",
    "EventError",
    "FinishReason",
    "ModelReplica",
    "ModelState",
    "ModelStatus",
    "Reconnecting",
    "Replaced",
    "Reply",
    "ReplyDetails",
    "ReplyEvent",
    "ReplyStream",
    "Resumed",
    "Role",
    "Route",
    "ServerStatus",
    "Session",
    "Source",
    "Started",
    "Token",
    "TransportKind",
    "Turn",
    "TurnStatus",
    "Usage",
]
