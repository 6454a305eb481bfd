"""The chat over HTTP: messages, retries and cancels as JSON or SSE, resuming as SSE, conversations, session, status."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from pratique.core.errors import CallerError, EnvironmentFaultError
from pratique.core.ids import ConversationId, GenerationId, PrincipalId
from pratique.orchestrator.api.admission import record, session_of
from pratique.orchestrator.api.requests import principal_of, read_body
from pratique.orchestrator.api.responses import HeldResponse, json_response
from pratique.orchestrator.api.sse import SseReply, SseResponse
from pratique.orchestrator.protocol.bodies import (
    Cancelled,
    ConversationList,
    ModelStatus,
    Rename,
    Reply,
    Session,
    Status,
)
from pratique.orchestrator.protocol.encode import decode_generation_event
from pratique.orchestrator.protocol.errors import FrameError
from pratique.orchestrator.protocol.events import Accepted, ConversationSummary, Ended, NotResumable, Role, Turn
from pratique.orchestrator.protocol.frames import PROTOCOL_VERSION, Cancel, Message, Resume, Retry
from pratique.orchestrator.protocol.parse import MAX_FRAME_BYTES, parse_body
from pratique.orchestrator.sessions.feed import FeedLostError

if TYPE_CHECKING:
    from starlette.requests import Request

    from pratique.orchestrator.api.runtime import Runtime
    from pratique.orchestrator.api.service import Answer
    from pratique.orchestrator.sessions.feed import Feed

__all__ = ["AnswerTimeoutError", "ChatRoutes"]

_MAX_TITLE_BODY_BYTES = 8192


class AnswerTimeoutError(EnvironmentFaultError):
    """The reply is still being made; it goes on."""

    code = "timeout"


class ChatRoutes:
    """Handlers of one replica."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._service = runtime.service

    def routes(self) -> list[Route]:
        conversation = "/api/conversations/{conversation_id}"
        return [
            Route("/api/session", self.session, methods=["GET"]),
            Route("/api/status", self.status, methods=["GET"]),
            Route("/api/chat", self.chat, methods=["POST"]),
            Route("/api/retry", self.retry, methods=["POST"]),
            Route("/api/cancel", self.cancel, methods=["POST"]),
            Route("/api/conversations", self.conversations, methods=["GET"]),
            Route(f"{conversation}/events", self.events, methods=["GET"]),
            Route(conversation, self.conversation, methods=["GET"]),
            Route(conversation, self.rename, methods=["PATCH"]),
            Route(conversation, self.delete, methods=["DELETE"]),
        ]

    async def session(self, request: Request) -> Response:
        """Say who asks, making a new session where there is none."""
        settings = self._runtime.settings
        grant = session_of(self._runtime, request.scope)
        response = json_response(
            Session(
                principal_id=grant.principal.principal_id,
                protocol_version=PROTOCOL_VERSION,
                replica=settings.replica,
                heartbeat_seconds=settings.heartbeat_seconds,
            )
        )
        if grant.set_cookie is not None:
            response.headers.append("set-cookie", grant.set_cookie)
        return response

    async def status(self, _: Request) -> Response:
        """Say how this replica and the models are."""
        state = self._runtime.poller.state
        return json_response(
            Status(
                replica=self._runtime.settings.replica,
                draining=self._runtime.drain.is_draining,
                model=ModelStatus(ready=state.ready, replicas=state.replicas),
            )
        )

    async def chat(self, request: Request) -> Response:
        """Send a message."""
        principal = principal_of(request)
        # Before the message is stored: a refusal must leave nothing behind.
        with ExitStack() as held:
            held.enter_context(self._runtime.connected(principal))
            message = parse_body(Message, await read_body(request, max_bytes=MAX_FRAME_BYTES))
            return await self._answer(request, await self._service.send(principal, message), held)

    async def retry(self, request: Request) -> Response:
        """Have the last user turn answered again."""
        principal = principal_of(request)
        with ExitStack() as held:
            held.enter_context(self._runtime.connected(principal))
            retry = parse_body(Retry, await read_body(request, max_bytes=MAX_FRAME_BYTES))
            return await self._answer(request, await self._service.retry(principal, retry), held)

    async def cancel(self, request: Request) -> Response:
        """Stop a reply."""
        cancel = parse_body(Cancel, await read_body(request, max_bytes=MAX_FRAME_BYTES))
        is_cancelled = await self._service.cancel(principal_of(request).principal_id, cancel)
        return json_response(Cancelled(generation_id=cancel.generation_id, cancelled=is_cancelled), status=202)

    async def events(self, request: Request) -> Response:
        """Resume a reply."""
        principal, resume = principal_of(request), _resume_of(request)
        with ExitStack() as held:
            held.enter_context(self._runtime.connected(principal))
            found = await self._service.resume(principal.principal_id, resume)
            generation_id = None if isinstance(found.first, NotResumable) else found.first.generation_id
            reply = SseReply(
                principal=principal,
                conversation_id=ConversationId(resume.conversation_id),
                generation_id=GenerationId(generation_id) if generation_id else None,
                first=found.first,
                feed=found.feed,
                after_seq=found.after_seq,
                has_model_state=True,
            )
            return HeldResponse(SseResponse(self._runtime, reply), held.pop_all())

    async def conversations(self, request: Request) -> Response:
        """List the asker's conversations, newest first."""
        limit = request.query_params.get("limit", "50")
        if not (limit.isascii() and limit.isdecimal() and len(limit) <= 3 and 1 <= int(limit) <= 200):  # noqa: PLR2004 - as documented
            raise CallerError(f"Expected 'limit' from 1 to 200; found '{limit[:20]}'.")
        page = await self._service.conversations(
            principal_of(request).principal_id, limit=int(limit), before=request.query_params.get("before")
        )
        return json_response(ConversationList(conversations=page.conversations, next=page.next))

    async def conversation(self, request: Request) -> Response:
        """Show one conversation."""
        stored = await self._service.conversation(principal_of(request).principal_id, _conversation_id(request))
        return json_response(stored.conversation)

    async def rename(self, request: Request) -> Response:
        """Give it another title."""
        raw = await read_body(request, max_bytes=_MAX_TITLE_BODY_BYTES)
        try:
            wanted = msgspec.json.decode(raw, type=Rename)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise FrameError(f"Expected the JSON of a title: {error}.") from error
        principal, name = principal_of(request), _conversation_id(request)
        shown = (await self._service.rename(principal.principal_id, name, wanted.title)).conversation
        record(self._runtime, request.scope, "conversation.rename", principal=principal, subject=name)
        return json_response(
            ConversationSummary(
                conversation_id=shown.conversation_id,
                title=shown.title,
                created_at=shown.created_at,
                updated_at=shown.updated_at,
            )
        )

    async def delete(self, request: Request) -> Response:
        """Delete it."""
        principal, name = principal_of(request), _conversation_id(request)
        await self._service.delete(principal.principal_id, name)
        record(self._runtime, request.scope, "conversation.delete", principal=principal, subject=name)
        return Response(status_code=204)

    async def _answer(self, request: Request, answer: Answer, held: ExitStack) -> Response:
        principal = principal_of(request)
        owner = principal.principal_id
        accepted = answer.accepted
        if _wants_stream(request):
            reply = SseReply(
                principal=principal,
                conversation_id=ConversationId(accepted.conversation_id),
                generation_id=GenerationId(accepted.generation_id),
                first=accepted,
                feed=answer.feed,
                needs_snapshot=True,
            )
            return HeldResponse(SseResponse(self._runtime, reply), held.pop_all())
        ended = await self._end_of(owner, answer)
        stored = await self._service.snapshot(owner, ConversationId(accepted.conversation_id), None)
        return json_response(_whole_reply(accepted, ended, stored.conversation.turns))

    async def _end_of(self, owner: PrincipalId, answer: Answer) -> Ended | None:
        """Return how a reply ended, once it has; None where only the store knows.

        Raises:
            AnswerTimeoutError: it has not ended in time.
        """
        accepted, feed = answer.accepted, answer.feed
        resume = Resume(conversation_id=accepted.conversation_id, generation_id=accepted.generation_id)
        try:
            async with asyncio.timeout(self._runtime.settings.reply_timeout_seconds):
                while feed is not None:
                    try:
                        return await _follow_to_end(feed)
                    except FeedLostError:
                        # Another replica goes on with it, or it ended there: what counts is the end.
                        feed = (await self._service.resume(owner, resume)).feed
        except TimeoutError as error:
            raise AnswerTimeoutError("The reply is still being made.", hint="Read the conversation later.") from error
        return None


def _wants_stream(request: Request) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


def _conversation_id(request: Request) -> ConversationId:
    return ConversationId(request.path_params["conversation_id"])


def _resume_of(request: Request) -> Resume:
    """Read the cursor, from Last-Event-ID or else from the query.

    Raises:
        FrameError: it is not one.
    """
    query = request.query_params
    generation_id, last_seq = query.get("generation_id"), query.get("last_seq", "0")
    cursor = request.headers.get("last-event-id")
    if cursor:
        generation_id, _, last_seq = cursor.rpartition(":")
    if not (last_seq.isascii() and last_seq.isdecimal() and len(last_seq) < 16):  # noqa: PLR2004 - 2**53 has 16 digits
        raise FrameError("Expected a cursor '<generation_id>:<seq>'.")
    try:
        return msgspec.convert(
            {
                "type": "resume",
                "conversation_id": _conversation_id(request),
                "generation_id": generation_id or None,
                "last_seq": int(last_seq),
            },
            Resume,
        )
    except msgspec.ValidationError as error:
        raise FrameError(f"Expected a cursor of a reply: {error}.") from error


async def _follow_to_end(feed: Feed) -> Ended | None:
    """Return how a reply ended, once it has; raise FeedLostError where its events cannot be followed any further."""
    last = None
    async for batch in feed.follow(max(0, feed.last_seq - 1)):
        last = batch[-1]
    event = decode_generation_event(last.data) if last is not None else None
    return event if isinstance(event, Ended) else None


def _whole_reply(accepted: Accepted, ended: Ended | None, turns: tuple[Turn, ...]) -> Reply:
    """Put a reply together from its end and what is stored; where the end is gone, from what is stored alone."""
    own = [turn for turn in turns if turn.generation_id == accepted.generation_id]
    turn = next((one for one in own if one.role is Role.ASSISTANT), None)
    # A reply that left no turn left its reason with the user's.
    told = ended or turn or next(iter(own), None)
    return Reply(
        conversation_id=accepted.conversation_id,
        generation_id=accepted.generation_id,
        user_turn_id=accepted.user_turn_id,
        turn=turn,
        usage=ended.usage if ended else None,
        was_truncated=turn.was_truncated if turn else False,
        turns_dropped=turn.turns_dropped if turn else 0,
        finish_reason=told.finish_reason if told else None,
        error=told.error if told else None,
    )
