"""Traffic logs: three kinds of lines, and every way in which a log is not one."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pratique.inference.errors import WarmupManifestError
from pratique.inference.warmup import log as log_module
from pratique.inference.warmup.derive import Request
from pratique.inference.warmup.log import LogOptions, TrafficLog, load_counter, load_traffic, read_traffic

pytestmark = pytest.mark.unit

LINE = b'{"prompt_tokens": 12}\n'


def read(*lines: bytes, **options: Any) -> TrafficLog:
    return read_traffic(lines, LogOptions(**options), where="access.log")


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (
            b'{"event":"request","level":"info","prompt_tokens":12,"completion_tokens":9,"adapter":"sales"}',
            Request(12, 9, "sales"),
        ),
        (
            b'{"id":"x","model":"m","usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}',
            Request(12, 3),
        ),
        (b'{"usage":{"prompt_tokens":12},"prompt_tokens":99}', Request(12)),
        (b'{"prompt_tokens":12}', Request(12)),
        (b'{"prompt_tokens":12,"completion_tokens":null,"adapter":null}', Request(12)),
        (b'{"prompt_tokens":12,"completion_tokens":5000}', Request(12, 16)),
        (b'{"prompt_tokens":12}\r\n', Request(12)),
        (b'{"prompt_tokens":12,"prompt":["a"],"query":7}', Request(12)),
        ('{"query":"a 日本 🙂","completion_tokens":2}'.encode(), Request(3, 2)),
        (b'{"prompt":"one two"}', Request(2)),
        (b'{"query":"one","prompt":"one two"}', Request(1)),
    ],
)
def test_what_a_line_says(line: bytes, request_: Request) -> None:
    found = read(line, count=lambda text: len(text.split()))
    assert (found.traffic, found.num_bad, found.num_requests) == ({request_: 1}, 0, 1)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"GET /invocations 200", "JSON is malformed"),
        (b'{"prompt_tokens": 12', "truncated"),
        (b"[1]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`"),
        (b"{}", "neither token counts nor a text"),
        (b'{"usage": null}', "neither token counts nor a text"),
        (b'{"usage": {}}', "missing required field `prompt_tokens`"),
        (b'{"prompt_tokens": 0}', ">= 1"),
        (b'{"prompt_tokens": -5}', ">= 1"),
        (b'{"prompt_tokens": true}', "got `bool`"),
        (b'{"prompt_tokens": "12"}', "got `str`"),
        (b'{"prompt_tokens": 1e99}', "prompt_tokens"),
        (b'{"prompt_tokens": 99999999999999999999999}', "prompt_tokens"),
        (b'{"prompt_tokens": 5, "adapter": "a b"}', "adapter"),
        (b'{"query": ""}', "neither"),
        (b'{"query": 5}', "neither"),
        (b'{"query": "\xff\xfe"}', "utf-8|UTF-8"),
        (b'{"query": ' + b"[" * 100_000, "recursion|malformed|truncated"),
    ],
)
def test_a_line_that_is_no_request_is_named(line: bytes, why: str) -> None:
    found = read(LINE, line, LINE, max_bad_share=1.0, count=len)
    assert (found.num_requests, found.num_bad, found.first_bad[0].number) == (2, 1, 2)
    with pytest.raises(WarmupManifestError, match=rf"1 of 3 lines of access.log are no requests. .*line 2: .*({why})"):
        read(LINE, line, LINE, count=len)


def test_the_engines_own_words_between_our_events_are_passed_over() -> None:
    event = b'{"event": "request", "prompt_tokens": 7, "completion_tokens": 2}'
    found = read(b"WARNING 11-25 no libtcmalloc", event, b"Loading checkpoint: 100%", event, b"[W1125 19:42] NUMA")
    assert (found.num_requests, found.num_bad, found.num_passed_over) == (2, 0, 3)


def test_up_to_the_share_bad_lines_are_put_up_with() -> None:
    assert read(*[LINE] * 99, b"no").num_bad == 1
    with pytest.raises(WarmupManifestError, match="2 of 100 lines"):
        read(*[LINE] * 98, b"no", b"no")
    assert len(read(*[b"no"] * 100, max_bad_share=1.0).first_bad) == 5


def test_other_events_blank_lines_and_other_models_are_passed_over() -> None:
    found = read(
        b'{"event":"phase","detail":"loading"}\n',
        b"\n",
        b"   \n",
        b'{"model":"other","prompt_tokens":5}',
        b'{"model":"mine","prompt_tokens":6}',
        b'{"prompt_tokens":7}',
        model="mine",
    )
    assert (found.traffic, found.num_passed_over, found.num_bad) == ({Request(6): 1, Request(7): 1}, 2, 0)


def test_the_templates_tokens_are_taken_off_what_was_recorded_not_off_texts() -> None:
    lines = (b'{"prompt_tokens":42}', b'{"prompt_tokens":3}', b'{"query":"a b c"}')
    found = read(*lines, template_tokens=30, count=lambda text: len(text.split()))
    assert found.traffic == {Request(12): 1, Request(1): 1, Request(3): 1}


def test_texts_without_a_tokenizer_are_refused_with_the_way_out() -> None:
    with pytest.raises(WarmupManifestError, match="nothing to count them with") as caught:
        read(b'{"query": "hello"}')
    assert "--tokenizer" in (caught.value.hint or "")


def test_what_is_no_traffic_log_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_MAX_KINDS", 3)
    with pytest.raises(WarmupManifestError, match="line 4: more than 3 different kinds"):
        read(*(b'{"prompt_tokens": %d}' % number for number in range(1, 9)))


def test_a_log_is_streamed() -> None:
    def endless() -> Iterator[bytes]:
        yield from [LINE] * 1000
        raise OSError("the reader came so far")

    with pytest.raises(OSError, match="so far"):
        read_traffic(endless(), LogOptions(), where="x")


def test_a_line_without_an_end_is_cut_and_the_next_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.inference.logfile.MAX_LINE_BYTES", 64)
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"query": "' + b"x" * 1000 + b'"}\n' + LINE + b"y" * 63 + b"\n" + LINE)
    found = load_traffic(file, LogOptions(max_bad_share=1.0))
    assert (found.num_requests, found.num_bad) == (2, 2)
    assert "more than 64 bytes" in found.first_bad[0].why


def test_plain_compressed_and_standard_input_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.bin"
    plain.write_bytes(b"\xef\xbb\xbf" + LINE * 3)
    packed.write_bytes(gzip.compress(LINE * 2) + gzip.compress(LINE))
    expected = load_traffic(plain, LogOptions())
    assert expected.traffic == {Request(12): 3}
    assert load_traffic(packed, LogOptions()) == expected
    for raw in (plain.read_bytes(), packed.read_bytes()):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        assert load_traffic(Path("-"), LogOptions()) == expected
        assert not sys.stdin.closed


def test_an_empty_log_has_no_requests(tmp_path: Path) -> None:
    file = tmp_path / "empty"
    file.write_bytes(b"")
    assert load_traffic(file, LogOptions()).num_requests == 0


@pytest.mark.parametrize("cut", [-5, 20])
def test_a_damaged_archive_is_told_as_one(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "a.gz"
    file.write_bytes(gzip.compress(LINE * 1000)[:cut])
    with pytest.raises(WarmupManifestError, match=r"a\.gz is damaged after line \d+"):
        load_traffic(file, LogOptions())


def test_a_flipped_byte_in_an_archive_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a.gz"
    raw = bytearray(gzip.compress(LINE * 1000))
    raw[30] ^= 0xFF
    file.write_bytes(raw)
    with pytest.raises(WarmupManifestError, match="damaged"):
        load_traffic(file, LogOptions(max_bad_share=1))


def test_a_log_that_is_not_there_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(WarmupManifestError, match="cannot be read: "):
            load_traffic(path, LogOptions())


class Tokenizer:
    """What is used of one of transformers'."""

    all_special_tokens = ("<s>",)

    @classmethod
    def from_pretrained(cls, folder: Path, *, local_files_only: bool) -> Tokenizer:
        assert local_files_only
        if not (folder / "tokenizer.json").exists():
            raise OSError("no file named tokenizer.json")
        return cls()

    def __call__(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [0] * len(text.split())}


def test_texts_are_counted_by_the_tokenizer_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=Tokenizer))
    with pytest.raises(WarmupManifestError, match="no folder"):
        load_counter(tmp_path / "none")
    with pytest.raises(WarmupManifestError, match="has no tokenizer that can be read: no file named"):
        load_counter(tmp_path)
    (tmp_path / "tokenizer.json").touch()
    assert load_counter(tmp_path)("one two three") == 3
