"""Reading log files line by line: plain or compressed, of any length, `-` for the standard input."""

from __future__ import annotations

import contextlib
import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, cast

from pratique.core.errors import CallerError

__all__ = ["MAX_LINE_BYTES", "LogFileError", "read_lines", "read_whole"]

MAX_LINE_BYTES: Final = 16 << 20
_GZIP: Final = b"\x1f\x8b"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class LogFileError(CallerError):
    """A file is not there, or cannot be read to its end."""

    code = "unreadable_file"


def read_lines(path: Path) -> Iterator[bytes | None]:
    """Yield the lines of a file; None for one of more than MAX_LINE_BYTES.

    Raises:
        LogFileError: it cannot be read, or is cut off; says after which line.
    """
    number = 0
    with _translated(path, lambda: f" after line {number}"), _opened(path) as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            is_too_long = len(line) > MAX_LINE_BYTES
            while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE_BYTES + 1)  # the rest of it, which nobody reads
            yield None if is_too_long else line.removeprefix(_BYTE_ORDER_MARK)


def read_whole(path: Path) -> bytes:
    """Return a file of at most MAX_LINE_BYTES.

    Raises:
        LogFileError: it cannot be read, or is larger.
    """
    with _translated(path, lambda: ""), _opened(path) as file:
        raw = file.read(MAX_LINE_BYTES + 1)
    if len(raw) > MAX_LINE_BYTES:
        raise LogFileError(f"{path} has more than {MAX_LINE_BYTES} bytes; expected one request.")
    return raw.removeprefix(_BYTE_ORDER_MARK)


@contextlib.contextmanager
def _translated(path: Path, where: Callable[[], str]) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise LogFileError(
            f"{path} is damaged{where()}: {error}.", hint="A file that is being compressed or copied is not whole yet."
        ) from error
    except OSError as error:
        raise LogFileError(f"{path} cannot be read: {error.strerror or error}.") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    with contextlib.ExitStack() as stack:
        if str(path) == "-":
            file: io.BufferedReader = io.BufferedReader(cast("io.RawIOBase", sys.stdin.buffer))
            stack.callback(file.detach)  # the standard input stays open
        else:
            file = stack.enter_context(path.open("rb"))
        is_compressed = file.peek(len(_GZIP)).startswith(_GZIP)
        yield stack.enter_context(gzip.GzipFile(fileobj=file)) if is_compressed else file
