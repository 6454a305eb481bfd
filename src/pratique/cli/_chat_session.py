"""What `pratique chat` does: one question, or a conversation at the prompt.

The event loop runs only while something is asked; at the prompt the terminal belongs to the reader alone. During a
reply the first Ctrl-C cancels it, all the way into the engine, and the second leaves.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec

from pratique.client import ChatClient, ClientError, EventError, FinishReason, Reply, ReplyStream, Usage
from pratique.client.errors import from_wire

if TYPE_CHECKING:
    from pratique.cli._chat_screen import Screen

__all__ = ["Once", "OnceResult", "converse", "say_once"]

T = TypeVar("T")
Reader: TypeAlias = Callable[[str], str]

_PROMPT: Final = "> "
_HELP: Final = """\
/new         begin a new conversation
/list        list your conversations
/open N      go on in conversation N of the list (or by its id)
/retry       have the last message answered again
/quit        leave (so does Ctrl-D)
Ctrl-C       stop the reply; a second one leaves"""


@dataclass(frozen=True, kw_only=True)
class Once:
    """One question on the command line."""

    text: str
    conversation_id: str | None
    wait_seconds: float
    is_json: bool
    model: str | None = None
    """A pool or an adapter; None: the service chooses."""


class OnceResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `--once --json` prints; times in seconds from the moment of asking."""

    schema_version: int = 1
    conversation_id: str
    generation_id: str
    text: str
    finish_reason: FinishReason
    turn_id: str | None
    usage: Usage | None
    was_truncated: bool
    turns_dropped: int
    model: str
    first_token_seconds: float | None
    total_seconds: float
    reconnects: int
    error: EventError | None


def say_once(client: ChatClient, screen: Screen, request: Once) -> None:
    """Ask, print the reply, and raise where it failed.

    Raises:
        ClientError: there is no reply, or not a whole one; what there is of it is printed first.
        KeyboardInterrupt: the reply was stopped by hand.
    """
    try:
        reply, failure = asyncio.run(_ask_once(client, screen, request))
    except _LeftError as error:
        raise KeyboardInterrupt from error
    if reply is not None and request.is_json:
        screen.print_data(msgspec.json.encode(_result_of(reply)).decode())
    elif reply is not None and not screen.is_terminal:
        screen.print_data(reply.text)
    if failure is not None:
        raise failure
    if reply is not None and reply.finish_reason is FinishReason.CANCELLED:
        raise KeyboardInterrupt


async def _ask_once(client: ChatClient, screen: Screen, request: Once) -> tuple[Reply | None, ClientError | None]:
    async with client as chat:
        await chat.wait_until_ready(timeout_seconds=request.wait_seconds, on_change=screen.show_model)
        stream = chat.send(request.text, conversation_id=request.conversation_id, model=request.model)
        try:
            await _follow(stream, screen, is_shown=not request.is_json)
        except ClientError as error:
            return error.reply, error
    reply = stream.reply
    failed = from_wire(reply.error, reply=reply) if reply is not None and reply.error is not None else None
    return reply, failed


def _result_of(reply: Reply) -> OnceResult:
    return OnceResult(
        conversation_id=reply.conversation_id,
        generation_id=reply.generation_id,
        text=reply.text,
        finish_reason=reply.finish_reason,
        turn_id=reply.turn_id,
        usage=reply.usage,
        was_truncated=reply.was_truncated,
        turns_dropped=reply.turns_dropped,
        model=reply.model,
        first_token_seconds=reply.first_token_seconds,
        total_seconds=reply.total_seconds,
        reconnects=reply.reconnects,
        error=reply.error,
    )


async def _follow(stream: ReplyStream, screen: Screen, *, is_shown: bool = True) -> None:
    """Show a reply to its end.

    Raises:
        ClientError: it broke off.
        _LeftError: Ctrl-C was pressed twice.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - narrows the type: a coroutine runs in a task
    interrupts = _Interrupts(stream, screen, task)
    async with stream:
        with interrupts:
            try:
                async for event in stream:
                    if is_shown:
                        screen.show(event)
            except asyncio.CancelledError:
                if not interrupts.has_left:
                    raise
                interrupts.following.uncancel()
        await interrupts.settle()
    if interrupts.has_left:
        raise _LeftError


class _LeftError(Exception):
    """The user left in the middle of a reply."""


class _Interrupts:
    """Owns SIGINT while a reply is followed, and the one task that cancels it."""

    def __init__(self, stream: ReplyStream, screen: Screen, following: asyncio.Task[object]) -> None:
        self.following = following
        self.has_left = False
        self._stream = stream
        self._screen = screen
        self._cancelling: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    def _interrupt(self) -> None:
        if self._cancelling is None:
            self._screen.note("Stopping the reply… (Ctrl-C again leaves)")
            self._cancelling = asyncio.get_running_loop().create_task(self._cancel())
        else:
            self.has_left = True
            self.following.cancel()

    async def _cancel(self) -> None:
        try:
            await self._stream.cancel()
        except ClientError as error:
            self._screen.fail(f"The reply could not be stopped: {error.message}", error.hint)

    async def settle(self) -> None:
        """Wait for the cancelling task, or end it where the user has left."""
        if self._cancelling is not None:
            if self.has_left:
                self._cancelling.cancel()
            await asyncio.wait([self._cancelling])


def converse(
    client: ChatClient,
    screen: Screen,
    *,
    conversation_id: str | None = None,
    model: str | None = None,
    reader: Reader = input,
) -> None:
    """Chat at the prompt until the user leaves.

    Raises:
        ClientError: the conversation to go on with cannot be had.
    """
    with asyncio.Runner() as runner:
        runner.run(client.__aenter__())
        try:
            _Terminal(client, screen, runner, reader, model=model).run(conversation_id)
        except (EOFError, KeyboardInterrupt, _LeftError):
            screen.note("Bye.")
        finally:
            runner.run(client.__aexit__(None, None, None))


class _Terminal:
    """The prompt: a line is a message, or a command where it begins with a slash."""

    def __init__(
        self, client: ChatClient, screen: Screen, runner: asyncio.Runner, reader: Reader, *, model: str | None
    ) -> None:
        self._client = client
        self._model = model
        self._screen = screen
        self._runner = runner
        self._reader = reader
        self._conversation_id: str | None = None
        self._listed: list[str] = []

    def run(self, conversation_id: str | None) -> None:
        """Read and answer lines.

        Raises:
            EOFError: the input ended; KeyboardInterrupt, _LeftError: the user left.
        """
        self._screen.note("Type a message, or /help.")
        self._run(self._show_model())
        if conversation_id is not None:
            self._runner.run(self._open(conversation_id))
        while True:
            line = self._reader(_PROMPT if self._screen.is_terminal else "").strip()
            if line == "/quit":
                return
            if line:
                self._run(self._answer(line))

    def _run(self, work: Coroutine[None, None, None]) -> None:
        try:
            self._runner.run(work)
        except ClientError as error:
            self._screen.fail(error.message, error.hint)

    async def _show_model(self) -> None:
        self._screen.show_model((await self._client.status()).model)

    async def _answer(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        match command:
            case "/help":
                self._screen.note(_HELP)
            case "/new":
                self._conversation_id = None
                self._screen.note("A new conversation begins with your next message.")
            case "/list":
                await self._list()
            case "/open":
                await self._open(argument.strip())
            case "/retry":
                await self._retry()
            case _ if line.startswith("/"):
                self._screen.fail(f"There is no command {command}.", "/help lists them.")
            case _:
                await self._follow(self._client.send(line, conversation_id=self._conversation_id, model=self._model))

    async def _list(self) -> None:
        page = await self._client.conversations()
        self._listed = [conversation.conversation_id for conversation in page.conversations]
        self._screen.list_conversations(page.conversations)
        if not self._listed:
            self._screen.note("There are no conversations yet.")

    async def _open(self, named: str) -> None:
        if not named:
            self._screen.fail("Which one?", "/list numbers them, /open N takes one.")
            return
        is_number = named.isascii() and named.isdigit() and 0 < int(named) <= len(self._listed)
        conversation = await self._client.conversation(self._listed[int(named) - 1] if is_number else named)
        self._conversation_id = conversation.conversation_id
        self._screen.show_conversation(conversation)
        if conversation.active_generation_id is not None:
            await self._follow(self._client.resume(conversation.conversation_id))

    async def _retry(self) -> None:
        if self._conversation_id is None:
            self._screen.fail("There is nothing to answer again.", "/open a conversation, or say something.")
            return
        await self._follow(self._client.retry(self._conversation_id))

    async def _follow(self, stream: ReplyStream) -> None:
        try:
            await _follow(stream, self._screen)
        finally:
            self._conversation_id = stream.conversation_id or self._conversation_id
            if stream.text and not self._screen.is_terminal:
                self._screen.print_data(stream.text)
