"""The load: people who hold conversations, one message after the other, and never give up before their patience ends.

A message keeps its client message id through all attempts, so that it may be stored once only. What a person sees goes
into the history; a message that was never acknowledged proves nothing and is counted apart.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.drill.history import Said

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from benchmarks.drill.history import History

__all__ = ["PATIENCE_SECONDS", "Person", "Refused", "Scene", "Watch"]

PATIENCE_SECONDS: Final = 90.0
"""How long one message is tried for."""
_TURNS_IN_CONVERSATION: Final = 6
_THINKING_SECONDS: Final = (0.05, 1.0)
_AGAIN_SECONDS: Final = (0.1, 0.8)
_LONG_SILENCE_SECONDS: Final = 0.5


class Refused(Exception):  # noqa: N818 - not ours to raise to anybody: it ends one attempt
    """An attempt was answered with an error, or was lost; `code` is what the person was shown."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What all people share."""

    url: str
    api_key: str
    history: History
    now: Callable[[], float]
    stopping: asyncio.Event


class Watch:
    """Notices long silences inside one reply."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._last = scene.now()

    def heard(self) -> None:
        """Something of the reply came."""
        now = self._scene.now()
        if now - self._last > _LONG_SILENCE_SECONDS:
            self._scene.history.silence(now, now - self._last)
        self._last = now


class Person(ABC):
    """One of them. Subclasses say how a message travels."""

    transport: str

    def __init__(self, name: str, scene: Scene, dice: Random) -> None:
        self.name = name
        self.scene = scene
        self.dice = dice
        self._number = 0
        self._conversation_id: str | None = None

    @abstractmethod
    async def live(self) -> None:
        """Open what is needed, and talk until it is enough."""

    @abstractmethod
    async def attempt(self, said: Said) -> None:
        """Send a message, or take up its reply where it was lost; fill in what is learnt; return at its end.

        Raises:
            Refused: this attempt failed.
        """

    async def talk(self) -> None:
        """Say one thing after the other until it is enough."""
        while not self.scene.stopping.is_set():
            said = self._next()
            await self._say(said)
            is_over = self._number % _TURNS_IN_CONVERSATION == 0 or said.ended is None
            self._conversation_id = None if is_over else said.conversation_id
            await asyncio.sleep(self.dice.uniform(*_THINKING_SECONDS))

    def _next(self) -> Said:
        self._number += 1
        text = f"{self.name} asks question {self._number} of {self.dice.getrandbits(32):08x} please"
        said = Said(
            person=self.name,
            transport=self.transport,
            number=self._number,
            client_message_id=f"{self.name}-{self._number:06}",
            text=text,
            sent=self.scene.now(),
            conversation_id=self._conversation_id,
        )
        self.scene.history.said.append(said)
        return said

    async def _say(self, said: Said) -> None:
        until = said.sent + PATIENCE_SECONDS
        while self.scene.now() < until:
            said.attempts += 1
            try:
                async with asyncio.timeout(until - self.scene.now()):
                    await self.attempt(said)
            except Refused as refused:
                self.scene.history.trouble(self.scene.now(), self.transport, refused.code)
                said.error = refused.code
            except TimeoutError:
                self.scene.history.trouble(self.scene.now(), self.transport, "patience_ended")
                said.error = "patience_ended"
            else:
                return
            await asyncio.sleep(self.dice.uniform(*_AGAIN_SECONDS))

    def acknowledge(self, said: Said, *, conversation_id: str, user_turn_id: str, generation_id: str) -> None:
        """The service says that the message is stored. It may say so again, never differently."""
        if said.acknowledged is None:
            said.acknowledged = self.scene.now()
            said.conversation_id, said.user_turn_id = conversation_id, user_turn_id
            said.generation_id = generation_id
        elif (said.user_turn_id, said.generation_id) != (user_turn_id, generation_id):
            said.faults.append(f"acknowledged twice: {user_turn_id}/{generation_id} after {said.generation_id}")

    def end(self, said: Said, *, finish_reason: str, turn_id: str | None, error: str | None) -> None:
        """The reply is over."""
        said.ended = self.scene.now()
        said.finish_reason, said.turn_id, said.error = finish_reason, turn_id, error
        if error is not None:
            self.scene.history.trouble(said.ended, self.transport, f"reply ended: {error}")
