"""The header of a safetensors file, checked before anything trusts it. Pure: bytes in, names out.

The format: 8 bytes little-endian length, a JSON object of that length, then the tensors' bytes without a gap
(https://huggingface.co/docs/safetensors, "Format"). Everything that the format promises is checked, and what it leaves
open is bounded: the length, the number of tensors, their rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

__all__ = [
    "LENGTH_BYTES",
    "MAX_HEADER_BYTES",
    "HeaderError",
    "check_index",
    "header_length",
    "looks_pickled",
    "parse_header",
]

LENGTH_BYTES: Final = 8
MAX_HEADER_BYTES: Final = 16 << 20
"""A sixth of what the format's own reader takes; the largest known models need a tenth of this in a shard."""
_MAX_TENSORS: Final = 200_000
_MAX_RANK: Final = 16
_METADATA: Final = "__metadata__"
_PICKLE_PROTOCOLS: Final = frozenset(range(6))

_BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("C64", "F64", "I64", "U64"), 64),
}

_Offset = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class HeaderError(ValueError):
    """The header, or an index of shards, is not what it should be. The message says how, without the file's name."""


class _Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[tuple[_Offset, ...], msgspec.Meta(max_length=_MAX_RANK)]
    data_offsets: tuple[_Offset, _Offset]


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def header_length(first: bytes, file_bytes: int) -> int:
    """Return the length of the header from a file's first 8 bytes.

    Raises:
        HeaderError: it is over the bound, or over what the file has.
    """
    if file_bytes < LENGTH_BYTES:
        raise HeaderError(f"it has {file_bytes} bytes, which is no header")
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise HeaderError(f"it declares a header of {length} bytes, expected at most {MAX_HEADER_BYTES}")
    if length > file_bytes - LENGTH_BYTES:
        raise HeaderError(f"it declares a header of {length} bytes, but ends after {file_bytes} bytes")
    return length


def parse_header(raw: bytes, data_bytes: int) -> frozenset[str]:
    """Check a header against the bytes that follow it, and return the names of the tensors.

    Raises:
        HeaderError: it is malformed; or a tensor's bytes are outside the file, shared, left over, or not as many as
            its type and shape take.
    """
    if not raw.startswith(b"{"):
        raise HeaderError("its header is no JSON object")
    tensors = _decode(raw)
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        position = _check_place(name, tensor, position)
    if position != data_bytes:
        raise HeaderError(f"its tensors take {position} bytes, but {data_bytes} follow the header")
    return frozenset(tensors)


def check_index(raw: bytes, shards: Mapping[str, frozenset[str]]) -> None:
    """Check an index (`model.safetensors.index.json`) against the names of the tensors in each shard.

    Raises:
        HeaderError: it is malformed, or names a shard or a tensor that is not there, or a tensor is in another shard.
    """
    try:
        weight_map = msgspec.json.decode(raw, type=_Index).weight_map
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HeaderError(f"it is no index of shards: {error}") from error
    named: dict[str, set[str]] = {}
    for tensor, shard in weight_map.items():
        named.setdefault(shard, set()).add(tensor)
    for shard, tensors in sorted(named.items()):
        if shard not in shards:
            raise HeaderError(f"it names the shard {shard!r}, which is missing")
        for tensor in sorted(tensors ^ shards[shard]):
            there = "is not in it" if tensor in tensors else "is not in the index"
            raise HeaderError(f"the index and the shard {shard!r} differ: the tensor {tensor[:200]!r} {there}")


def looks_pickled(first: bytes) -> bool:
    """Whether a file that should be safetensors begins like a pickle, or like the archive that `torch.save` writes."""
    return first.startswith(b"PK\x03\x04") or (
        first[:1] == b"\x80" and first[1:2] != b"" and first[1] in _PICKLE_PROTOCOLS
    )


def _decode(raw: bytes) -> dict[str, _Tensor]:
    try:
        parts = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        metadata = parts.pop(_METADATA, None)
        if metadata is not None:
            msgspec.json.decode(metadata, type=dict[str, str])
        if len(parts) > _MAX_TENSORS:
            raise HeaderError(f"it has {len(parts)} tensors, expected at most {_MAX_TENSORS}")
        return {name: msgspec.json.decode(part, type=_Tensor) for name, part in parts.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HeaderError(f"its header is malformed: {error}") from error


def _check_place(name: str, tensor: _Tensor, position: int) -> int:
    begin, end = tensor.data_offsets
    shown = repr(name[:200])
    if tensor.dtype not in _BITS:
        raise HeaderError(f"the tensor {shown} has the unknown type {tensor.dtype[:40]!r}")
    if begin != position or end < begin:
        raise HeaderError(f"the tensor {shown} is at bytes {begin}…{end}, expected to begin at {position}")
    num_bits = math.prod(tensor.shape) * _BITS[tensor.dtype]
    if num_bits != 8 * (end - begin):
        raise HeaderError(
            f"the tensor {shown} has {end - begin} bytes, but its type and shape take {-(-num_bits // 8)}"
        )
    return end
