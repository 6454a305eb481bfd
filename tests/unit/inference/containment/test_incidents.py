"""Why an engine died, in the words of its allocators; and the bounded record of what happened."""

from __future__ import annotations

import pytest

from pratique.core.clock import ManualClock
from pratique.inference.containment.incidents import IncidentKind, Incidents, classify
from pratique.inference.errors import DeathCause

pytestmark = pytest.mark.unit

OOM, KILLED, CRASHED = DeathCause.OUT_OF_MEMORY, DeathCause.KILLED, DeathCause.CRASHED


def cause(exit_code: int | None = None, said: str = "", kills: tuple[int | None, int | None] = (0, 0)) -> DeathCause:
    return classify(exit_code, said, oom_kills_before=kills[0], oom_kills_after=kills[1])


@pytest.mark.parametrize(
    "said",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB",
        "torch.cuda.OutOfMemoryError: HIP out of memory. Tried to allocate 20.00 MiB",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: MPS backend out of memory (MPS allocated: 8.00 GB)",
        "cudaErrorMemoryAllocation",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9",
        "[enforce fail at CPUAllocator.cpp:75] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
        "OSError: [Errno 12] Cannot allocate memory",
        "mmap: can't allocate memory",
        "Traceback (most recent call last):\n  File 'x.py', line 1\nMemoryError",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 GiB for an array",
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc",
        "memory allocation of 1073741824 bytes failed",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.",
        "RuntimeError: unable to allocate shared memory(shm) for file </torch_1>: Success (0)",
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
        "ValueError: Free memory on device cuda:0 (1.2/79 GiB) on startup is less than desired GPU memory utilization",
        "NCCL WARN Cuda failure 'out of memory'",
    ],
)
@pytest.mark.parametrize("exit_code", [None, 1, -6, -9])
def test_an_allocators_own_words_are_out_of_memory_whatever_the_exit_code(said: str, exit_code: int | None) -> None:
    assert cause(exit_code, f"noise\n日本語🙂 {said}\nmore noise") is OOM


@pytest.mark.parametrize(
    "said",
    [
        "",
        "AssertionError",
        "user: my laptop is out of memory, what do I do?",
        "メモリ不足です。out of memory と出ます",
        "class MyMemoryErrorHandler was called",
        "CUDA is fine.\n" + "x" * 100 + "\nand the user is out of memory",
        "CUDA " + "x" * 10_000 + " out of memory",
        "RuntimeError: CUDA error: device-side assert triggered",
        "memory allocation of many bytes failed",
    ],
)
def test_other_words_are_not_also_where_they_speak_of_memory(said: str) -> None:
    assert cause(1, said) is CRASHED


@pytest.mark.parametrize(
    ("exit_code", "kills", "expected"),
    [
        (-9, (0, 1), OOM),
        (137, (3, 5), OOM),
        (None, (0, 1), OOM),
        (-9, (1, 1), KILLED),
        (-9, (None, 1), KILLED),
        (-9, (1, None), KILLED),
        (-9, (5, 1), KILLED),  # counted in another group
        (137, (0, 0), KILLED),
        (-15, (0, 1), KILLED),
        (143, (0, 0), KILLED),
        (-2, (0, 0), KILLED),
        (-11, (0, 1), CRASHED),
        (-6, (0, 0), CRASHED),
        (134, (0, 0), CRASHED),
        (1, (0, 1), CRASHED),
        (0, (0, 0), CRASHED),
        (255, (0, 0), CRASHED),
        (128, (0, 0), CRASHED),
        (9, (0, 1), CRASHED),
        (None, (0, 0), CRASHED),
        (None, (None, None), CRASHED),
    ],
)
def test_without_words_the_exit_code_and_the_kernels_count_decide(
    exit_code: int | None, kills: tuple[int | None, int | None], expected: DeathCause
) -> None:
    assert cause(exit_code, "", kills) is expected


def test_the_end_of_a_huge_log_is_read_and_its_beginning_is_not() -> None:
    filler = "CUDA HIP memory allocation of 1" * 5000
    assert cause(1, f"{filler}\nMemoryError") is OOM
    assert cause(1, f"MemoryError\n{filler}") is CRASHED


async def test_incidents_have_times_causes_and_numbers() -> None:
    clock = ManualClock(epoch_seconds=1000)
    incidents = Incidents(clock)
    incidents.record(IncidentKind.TRIP, cause=OOM, detail="CUDA out of memory")
    await clock.advance(6.25)
    restart = incidents.record(IncidentKind.RESTART, seconds=6.2504)
    assert incidents.kept[-1] is restart
    assert incidents.snapshot() == [
        {
            "number": 1,
            "kind": "trip",
            "at_epoch": 1000.0,
            "cause": "out_of_memory",
            "detail": "CUDA out of memory",
            "seconds": None,
        },
        {"number": 2, "kind": "restart", "at_epoch": 1006.25, "cause": None, "detail": "", "seconds": 6.25},
    ]


def test_the_record_is_bounded_and_goes_on_counting() -> None:
    incidents = Incidents(ManualClock(), max_kept=3)
    for _ in range(1000):
        incidents.record(IncidentKind.FLUSH)
    assert [incident.number for incident in incidents.kept] == [998, 999, 1000]
    assert incidents.num_recorded == 1000


def test_a_traceback_becomes_one_line_of_bounded_length() -> None:
    incidents = Incidents(ManualClock())
    assert incidents.record(IncidentKind.RESTART_FAILED, detail=" a\n\n  b\tc ").detail == "a b c"
    assert incidents.record(IncidentKind.TRIP, detail="語" * 300).detail == "語" * 300
    assert incidents.record(IncidentKind.TRIP, detail="語" * 301).detail == "語" * 299 + "…"
