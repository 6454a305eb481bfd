"""A model's chat template: what it makes of messages, and what it puts around each of them.

A template is a program, so its frames are learned by asking it: probes are rendered, and what stands before and after
their contents is compared. Nothing here is believed without a check; see `ChatPrompts`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pratique.inference.engines.interface import ChatMessage, Role
from pratique.inference.errors import InvalidInvocationError

__all__ = ["Frame", "Frames", "Template", "learn_frames"]

_PROBE: Final = "\ufdd1"  # a Unicode noncharacter, for a content of which the place is looked for
_QUESTION: Final = ChatMessage("user", "a")
_ANSWER: Final = ChatMessage("assistant", "b")
BEFORE: Final[dict[Role, tuple[ChatMessage, ...]]] = {
    "system": (_QUESTION, _ANSWER),
    "user": (_QUESTION, _ANSWER),
    "assistant": (_QUESTION,),
    "tool": (_QUESTION, _ANSWER),
}
"""What a message of each role may follow."""


class Template:
    """Renders messages. Safe to use from several threads."""

    def __init__(self, tokenizer: Any, escape: Callable[[str], str]) -> None:  # noqa: ANN401 - no usable types
        self._tokenizer = tokenizer
        self._escape = escape

    def render(
        self,
        messages: Sequence[ChatMessage],
        contents: Sequence[str] | None = None,
        *,
        is_open: bool = False,
        tools: str = "",
    ) -> str:
        """Return the template's text, open for a reply or not; texts in it are escaped.

        `contents` are those of the messages where they have been escaped already.

        Raises:
            InvalidInvocationError: the template does not take these messages.
        """
        contents = [self._escape(message.content) for message in messages] if contents is None else contents
        chat = [self._fields(message, content) for message, content in zip(messages, contents, strict=True)]
        known = {"tools": self._parsed(tools, "tools")} if tools else {}
        try:
            text: str = self._tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=is_open, **known
            )
        except Exception as error:  # a template is a program of the model's author: whatever it raises, it refuses
            raise InvalidInvocationError(
                f"The model's chat template does not take these messages: {error}.",
                hint="Expected roles: an optional system message first, then user and assistant in turn.",
            ) from error
        return text

    def _fields(self, message: ChatMessage, content: str) -> dict[str, object]:
        fields: dict[str, object] = {"role": message.role, "content": content}
        if message.extra:
            extra = self._parsed(message.extra, f"the extra fields of a {message.role} message")
            if not isinstance(extra, dict):
                raise InvalidInvocationError(
                    f"Extra fields of a message must be a JSON object, not {message.extra[:80]!r}."
                )
            fields |= extra
        return fields

    def _parsed(self, text: str, what: str) -> object:
        """Read JSON; every text in it is escaped."""
        try:
            return self._escaped(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise InvalidInvocationError(f"Expected JSON for {what}, got {text[:80]!r}: {error}.") from error

    def _escaped(self, value: object) -> object:
        if isinstance(value, str):
            return self._escape(value)
        if isinstance(value, dict):
            return {self._escape(str(name)): self._escaped(inner) for name, inner in value.items()}
        return [self._escaped(inner) for inner in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Frame:
    """What a template puts around a content."""

    before: str
    after: str
    is_trimmed: bool = False

    def wrap(self, content: str) -> str:
        return self.before + (content.strip() if self.is_trimmed else content) + self.after


@dataclass(frozen=True, kw_only=True)
class Frames:
    """A template in pieces."""

    begin: str
    """Of a prompt without a system message: often a system prompt of the template's own."""
    begin_system: str
    """Of a prompt that has one."""
    roles: dict[Role, Frame]
    reply: str
    """What opens the reply."""
    allows_system_inside: bool


def learn_frames(template: Template) -> Frames | None:
    """Take a template to pieces; None for one that does more than put messages one behind the other."""
    roles = {role: frame for role in BEFORE if (frame := _frame(template, role)) is not None}
    if not {"user", "assistant"} <= roles.keys():
        return None
    user, inside = roles["user"], roles.pop("system", None)
    try:
        first = template.render([ChatMessage("user", _PROBE)])
        opened = template.render([ChatMessage("user", _PROBE)], is_open=True)
    except InvalidInvocationError:
        return None
    if not first.endswith(user.wrap(_PROBE)) or not opened.startswith(first):
        return None
    begin = first.removesuffix(user.wrap(_PROBE))
    begin_system, system = _system_frame(template, begin, user, inside)
    if system is not None:
        roles["system"] = system
    return Frames(
        begin=begin,
        begin_system=begin_system,
        roles=roles,
        reply=opened.removeprefix(first),
        allows_system_inside=inside is not None and inside == system,
    )


def _frame(template: Template, role: Role) -> Frame | None:
    """Frame of a role inside a conversation, None where it is refused or there is no such thing."""
    try:
        context = template.render(BEFORE[role])
        whole = template.render([*BEFORE[role], ChatMessage(role, _PROBE)])
        spaced = template.render([*BEFORE[role], ChatMessage(role, f" \n{_PROBE}\n ")])
    except InvalidInvocationError:
        return None
    if not whole.startswith(context) or whole.count(_PROBE) != 1:
        return None
    before, after = whole.removeprefix(context).split(_PROBE)
    return Frame(before, after, is_trimmed=spaced == whole)


def _system_frame(template: Template, begin: str, user: Frame, inside: Frame | None) -> tuple[str, Frame | None]:
    """Return how a prompt with a system message begins, and the frame of that message."""
    try:
        whole = template.render([ChatMessage("system", _PROBE), ChatMessage("user", "a")])
        spaced = template.render([ChatMessage("system", f" \n{_PROBE}\n "), ChatMessage("user", "a")])
    except InvalidInvocationError:
        return "", None
    if not whole.endswith(user.wrap("a")) or whole.count(_PROBE) != 1:
        return "", None
    before, after = whole.removesuffix(user.wrap("a")).split(_PROBE)
    frame = Frame(before, after, is_trimmed=spaced == whole)
    if (
        inside is not None
        and before.endswith(inside.before)
        and frame == Frame(before, inside.after, inside.is_trimmed)
    ):
        return before.removesuffix(inside.before), inside
    shared = begin if before.startswith(begin) else ""
    return shared, Frame(before.removeprefix(shared), after, frame.is_trimmed)
