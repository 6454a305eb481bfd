"""Exercises the whole public client under a second type checker; checked, not run."""

from __future__ import annotations

from typing import assert_type

from pratique.client import (
    Accepted,
    ChatClient,
    ClientError,
    ClientSettings,
    Continued,
    Conversation,
    ConversationPage,
    Ended,
    FinishReason,
    ModelState,
    ModelStatus,
    Reconnecting,
    Replaced,
    Reply,
    ReplyStream,
    Resumed,
    ServerStatus,
    Session,
    Started,
    Token,
    TransportKind,
    Usage,
)

__all__: list[str] = []


async def talk() -> str:
    settings = ClientSettings(reply_timeout_seconds=30.0)
    async with ChatClient("http://127.0.0.1:8080", api_key="pk_x", settings=settings) as chat:
        assert_type(chat.transport, TransportKind)
        stream = chat.send("hello", conversation_id=None, max_tokens=5, temperature=0.0)
        assert_type(stream, ReplyStream)
        async for event in stream:
            match event:
                case Token():
                    assert_type(event.text, str)
                case Ended():
                    assert_type(event.finish_reason, FinishReason)
                    assert_type(event.usage, Usage | None)
                case Reconnecting():
                    assert_type(event.delay_seconds, float)
                case Replaced() | Accepted() | Started() | Continued() | ModelState() | Resumed():
                    pass
        assert_type(stream.reply, Reply | None)
        return await ask(chat)


async def ask(chat: ChatClient) -> str:
    try:
        reply = await chat.ask("hello", conversation_id="cnv_1")
    except ClientError as error:
        assert_type(error.reply, Reply | None)
        assert_type(error.retry_after_seconds, float | None)
        return error.wire_code
    assert_type(await chat.retry("cnv_1").wait(), Reply)
    assert_type(await chat.resume("cnv_1", generation_id=reply.generation_id, last_seq=3).wait(), Reply)
    assert_type(await chat.cancel(reply.generation_id), bool)
    return reply.text


async def look(chat: ChatClient) -> None:
    assert_type(await chat.conversations(limit=3, before=None), ConversationPage)
    assert_type(await chat.conversation("cnv_1"), Conversation)
    assert_type(await chat.session(), Session)
    assert_type(await chat.status(), ServerStatus)
    assert_type(await chat.wait_until_ready(timeout_seconds=3, on_change=show), ServerStatus)
    await chat.delete("cnv_1")


def show(model: ModelStatus) -> None:
    assert_type(model.ready, bool)
