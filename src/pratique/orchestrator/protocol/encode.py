"""Events → the bytes that every transport and the generation log carry, and back."""

from __future__ import annotations

import msgspec

from pratique.orchestrator.protocol.events import Continued, Ended, GenerationEvent, ServerEvent, Started, Token

__all__ = ["decode_generation_event", "encode_event", "event_type"]

_encoder = msgspec.json.Encoder()
_generation_decoder: msgspec.json.Decoder[GenerationEvent] = msgspec.json.Decoder(Started | Continued | Token | Ended)


def encode_event(event: ServerEvent) -> bytes:
    """Write one event as JSON."""
    return _encoder.encode(event)


def decode_generation_event(data: bytes) -> GenerationEvent:
    """Read a numbered event back from the log.

    Raises:
        msgspec.MsgspecError: the log does not hold what this version writes.
    """
    return _generation_decoder.decode(data)


def event_type(event: ServerEvent) -> str:
    """Return the `type` of an event, as it stands in its JSON."""
    return str(type(event).__struct_config__.tag)
