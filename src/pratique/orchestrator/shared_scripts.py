"""Runs one script of Valkey for many callers in one round trip: what is asked during one goes with the next.

One round trip at a time, and each with a deadline: behind one connection that hangs all callers of a script wait. Each
gets its own result or its own error; one that is cancelled cancels nobody else. The generation log and the shared cache
write so.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pratique.core.events import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis.asyncio

__all__ = ["BegunCommand", "ScriptTogether"]

_logger = get_logger("valkey")
_MOST_AT_ONCE: Final = 256


@dataclass(frozen=True)
class BegunCommand:
    """The first parts of a command, as they are sent."""

    num_parts: int
    packed: bytes


class _Asked(NamedTuple):
    command: bytes
    told: Callable[[Any], None]
    is_over: Callable[[], bool] | None


class ScriptTogether:
    """A script on a server; safe to run twice with the same arguments, as it may be when a connection breaks."""

    def __init__(self, client: redis.asyncio.Redis, script: str, *, deadline_seconds: float) -> None:
        """Run `script` on `client`'s server.

        Args:
            client: its pool's connections are used, each for one round trip at a time.
            script: in Lua.
            deadline_seconds: for one round trip, with its retry and with loading the script.
        """
        self._client = client
        self._script = script
        self._deadline_seconds = deadline_seconds
        self._sha = hashlib.sha1(script.encode()).hexdigest().encode()  # noqa: S324 - EVALSHA's name for it
        self._waiting: list[_Asked] = []
        self._running: asyncio.Task[None] | None = None

    async def run(self, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:  # noqa: ANN401 - as redis-py has it
        """Return the script's result.

        Raises:
            RedisError, OSError: the server is away, or refused it.
        """
        return await self.ask(self.begun(keys, arguments), ())

    def begun(self, keys: Sequence[bytes], arguments: Sequence[bytes]) -> BegunCommand:
        """Return a call of the script up to these arguments, for `ask` to end, many times."""
        parts = [b"EVALSHA", self._sha, b"%d" % len(keys), *keys, *arguments]
        return BegunCommand(len(parts), _packed(parts))

    async def ask(self, begun: BegunCommand, arguments: Sequence[bytes]) -> Any:  # noqa: ANN401 - as redis-py has it
        """Run a call with these arguments at its end; raises like `run`."""
        found = asyncio.get_running_loop().create_future()

        def told(said: Any) -> None:  # noqa: ANN401 - as redis-py has it
            if found.done():
                return
            if isinstance(said, Exception):
                found.set_exception(said)
            else:
                found.set_result(said)

        self.tell(begun, arguments, told, is_over=found.done)
        return await found

    def tell(
        self,
        begun: BegunCommand,
        arguments: Sequence[bytes],
        told: Callable[[Any], None],
        *,
        is_over: Callable[[], bool] | None = None,
    ) -> None:
        """Run a call with these arguments at its end, and tell what `run` returns or raises: later, and once.

        Nothing is made here that waits, for what is asked many times a second. `is_over` says that nobody wants it any
        more.
        """
        size = begun.num_parts + len(arguments)
        self._waiting.append(_Asked(b"*%d\r\n%b%b" % (size, begun.packed, _packed(arguments)), told, is_over))
        if self._running is None:
            self._running = asyncio.ensure_future(self._run_all())

    async def aclose(self) -> None:
        """End what is under way; those who wait are told."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run_all(self) -> None:
        batch: list[_Asked] = []
        try:
            while self._waiting:
                batch = [one for one in self._waiting[:_MOST_AT_ONCE] if one.is_over is None or not one.is_over()]
                del self._waiting[:_MOST_AT_ONCE]
                if batch:
                    await self._run(batch)
                    batch = []
        finally:
            self._running = None
            closed, self._waiting = [*batch, *self._waiting], []
            _tell_all(closed, [RedisConnectionError("What runs the script was closed.")] * len(closed))

    async def _run(self, batch: Sequence[_Asked]) -> None:
        results: Sequence[Any]
        try:
            async with asyncio.timeout(self._deadline_seconds):
                results = await self._ask([one.command for one in batch])
        except TimeoutError:
            results = [RedisTimeoutError(f"No answer within {self._deadline_seconds:g} s.")] * len(batch)
        except (RedisError, OSError) as error:
            results = [error] * len(batch)
        _tell_all(batch, results)

    async def _ask(self, commands: Sequence[bytes]) -> Sequence[Any]:
        try:
            results = await self._send(commands)
        except RedisConnectionError:
            # Once more, at once: after a restart of the server every pooled connection has broken.
            results = await self._send(commands)
        if any(isinstance(result, NoScriptError) for result in results):
            with _resets_named():
                await self._client.script_load(self._script)
            results = await self._send(commands)
        return results

    async def _send(self, commands: Sequence[bytes]) -> list[Any]:
        """Send all, then read all; an error of one stands in its place. redis-py's pipeline costs twice as much."""
        pool: Any = self._client.connection_pool  # redis-py does not type it
        with _resets_named():
            connection = await pool.get_connection()
            try:
                await connection.send_packed_command(commands)
                return [await _read(connection) for _ in commands]
            except BaseException:
                # What is still to be read would be taken for the answers to what is asked next.
                await connection.disconnect(nowait=True)
                raise
            finally:
                await pool.release(connection)


def _tell_all(asked: Sequence[_Asked], results: Sequence[Any]) -> None:
    for one, result in zip(asked, results, strict=True):
        try:
            one.told(result)
        except Exception:
            # A fault of one who asked must not keep the others' answers from them.
            _logger.exception("script_answer_not_taken")


@contextmanager
def _resets_named() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # uvloop's, where a pooled connection was reset a moment ago and redis-py still writes to it.
        raise RedisConnectionError(f"The connection was reset: {error}.") from error


async def _read(connection: Any) -> Any:  # noqa: ANN401 - redis-py has several classes of them
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _packed(parts: Sequence[bytes]) -> bytes:
    """Return the parts of a command as RESP has them: bulk strings."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])
