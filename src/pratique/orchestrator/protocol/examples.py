"""One real frame and event of each type, for the published documents and the reference. Tests hold them to the schema.

They are pieces of one story: a question is asked, its reply is routed to a model, streamed, and stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pratique.orchestrator.protocol import events, frames

if TYPE_CHECKING:
    from pratique.orchestrator.protocol.events import ServerEvent
    from pratique.orchestrator.protocol.frames import ClientFrame

__all__ = ["EVENT_EXAMPLES", "FRAME_EXAMPLES", "example_of"]

_CONVERSATION: Final = "conv_01m8aj1kcz6z4qnkmjhwgfwqxb"
_GENERATION: Final = "gen_01m8aj22ajbch3wskgxj80sxmw"
_USER_TURN: Final = "turn_01m8aj22ajfc5ggppsty7zpmeb"
_TURN: Final = "turn_01m8aj25qq5hkf7r7bzbkstk9y"
_MESSAGE: Final = "msg_7f3a9c51"
_MODEL: Final = "chatbot-en"
_QUESTION: Final = "Which manga should a beginner read?"

_DETAILS: Final = events.ReplyDetails(
    route=events.Route(pool="small", model=_MODEL, policy="named", reason=f"the message asks for '{_MODEL}'"),
    sources=(events.Source(source_id="catalogue/yotsuba", title="Yotsuba&!", url="https://shop.example/yotsuba"),),
    degraded=(),
)
_CONVERSED: Final = events.Conversation(
    conversation_id=_CONVERSATION,
    title=_QUESTION,
    created_at=1_795_650_819.25,
    updated_at=1_795_650_822.5,
    version=2,
    turns=(
        events.Turn(
            turn_id=_USER_TURN,
            role=events.Role.USER,
            text=_QUESTION,
            status=events.TurnStatus.COMPLETE,
            created_at=1_795_650_819.25,
            generation_id=_GENERATION,
        ),
        events.Turn(
            turn_id=_TURN,
            role=events.Role.ASSISTANT,
            text="Yotsuba&! is a gentle first one.",
            status=events.TurnStatus.COMPLETE,
            created_at=1_795_650_822.5,
            finish_reason=events.FinishReason.STOP,
            generation_id=_GENERATION,
            details=_DETAILS,
        ),
    ),
)

FRAME_EXAMPLES: Final[tuple[ClientFrame, ...]] = (
    frames.Message(
        client_message_id=_MESSAGE, text=_QUESTION, conversation_id=_CONVERSATION, max_tokens=256, model=_MODEL
    ),
    frames.Retry(conversation_id=_CONVERSATION, client_message_id="msg_7f3a9c52"),
    frames.Resume(conversation_id=_CONVERSATION, generation_id=_GENERATION, last_seq=17),
    frames.Cancel(generation_id=_GENERATION),
    frames.Ping(nonce="n1"),
)

EVENT_EXAMPLES: Final[tuple[ServerEvent, ...]] = (
    events.Hello(replica="orchestrator-0", principal_id="usr_01m8aj1kaz82tks78cxtygc653", heartbeat_seconds=10.0),
    events.Heartbeat(),
    events.ModelState(
        ready=False,
        replicas=(
            events.ModelReplica(
                name="inference-0", state="model_loaded", detail="warming up", progress=0.4, eta_seconds=12.0
            ),
        ),
    ),
    events.Accepted(
        client_message_id=_MESSAGE,
        conversation_id=_CONVERSATION,
        user_turn_id=_USER_TURN,
        generation_id=_GENERATION,
    ),
    events.Reconnected(conversation_id=_CONVERSATION, generation_id=_GENERATION, last_seq=17),
    events.NotResumable(conversation_id=_CONVERSATION, generation_id=_GENERATION, conversation=_CONVERSED),
    events.Started(
        conversation_id=_CONVERSATION,
        generation_id=_GENERATION,
        seq=1,
        model="smollm2-135m-instruct",
        prompt_tokens=41,
        details=_DETAILS,
    ),
    events.Continued(conversation_id=_CONVERSATION, generation_id=_GENERATION, seq=9, reason="model_server_lost"),
    events.Token(conversation_id=_CONVERSATION, generation_id=_GENERATION, seq=10, text=" gentle"),
    events.Ended(
        conversation_id=_CONVERSATION,
        generation_id=_GENERATION,
        seq=18,
        finish_reason=events.FinishReason.STOP,
        turn_id=_TURN,
        usage=events.Usage(prompt_tokens=41, completion_tokens=9),
    ),
    events.Pong(nonce="n1"),
    events.GoingAway(reconnect_after_seconds=0.1),
    events.ErrorEvent(
        error=events.EventError(
            code="rate_limited",
            message="You may send 20 messages a minute.",
            hint="Wait a little.",
            retry_after_seconds=2.5,
        ),
        client_message_id=_MESSAGE,
    ),
)


def example_of(kind: type) -> Any:  # noqa: ANN401 - JSON
    """Return the example of a frame or event type as JSON values; what is not said is left out of a frame."""
    found = next(one for one in (*FRAME_EXAMPLES, *EVENT_EXAMPLES) if type(one) is kind)
    shown = msgspec.json.decode(msgspec.json.encode(found))
    if found in FRAME_EXAMPLES:
        return {name: value for name, value in shown.items() if value is not None}
    return shown
