"""Parts of the vLLM engine that need no vLLM: the checks of adapters, their table, and the counting of iterations."""

from __future__ import annotations

import json
import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest

from pratique.inference.containment.incidents import classify
from pratique.inference.engines._adapters import MAX_ADAPTERS, AdapterTable, check_adapter, link_adapter
from pratique.inference.engines._limits import memory_limit_reached
from pratique.inference.engines._stats import Recorder, collectors, move_collectors
from pratique.inference.engines.interface import Adapter
from pratique.inference.errors import DeathCause, EngineError, UnknownModelError, UnsafeWeightsError

pytestmark = pytest.mark.unit

LAYER = "model.layers.0.mlp.down_proj"
CONFIG = {"peft_type": "LORA", "r": 2}


def write_tensors(file: Path, shapes: dict[str, list[int]]) -> None:
    """Write zeros in the safetensors format, without a library."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    file.write_bytes(len(raw).to_bytes(8, "little") + raw + b"\0" * end)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    write_tensors(folder / "model-1.safetensors", {"model.norm.weight": [6]})
    write_tensors(folder / "model-2.safetensors", {f"{LAYER}.weight": [6, 4], "model.embed.weight": [9, 6]})
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    write_weights(folder)
    return Adapter(name="formal", folder=folder)


def write_weights(folder: Path, *, a: list[int] | None = None, b: list[int] | None = None, layer: str = LAYER) -> None:
    shapes = {
        f"base_model.model.{layer}.lora_A.weight": a or [2, 4],
        f"base_model.model.{layer}.lora_B.weight": b or [6, 2],
    }
    write_tensors(folder / "adapter_model.safetensors", shapes)


def test_an_adapter_that_fits_is_taken(adapter: Adapter, model: Path) -> None:
    check_adapter(adapter, model=model, max_rank=2)


def test_a_weight_that_the_model_does_not_have_is_left_to_vllm(adapter: Adapter, model: Path) -> None:
    write_weights(adapter.folder, layer="lm_head", a=[2, 77], b=[88, 2])
    check_adapter(adapter, model=model, max_rank=8)


@pytest.mark.parametrize(
    ("a", "b"), [([2, 5], None), (None, [5, 2]), (None, [12]), ([2, 4, 1], None), ([2, 6], [4, 2])]
)
def test_matrices_of_another_model_are_refused(
    adapter: Adapter, model: Path, a: list[int] | None, b: list[int] | None
) -> None:
    write_weights(adapter.folder, a=a, b=b)
    with pytest.raises(EngineError, match="does not fit the model") as caught:
        check_adapter(adapter, model=model, max_rank=8)
    assert "[6, 4]" in caught.value.message


@pytest.mark.parametrize("config", [{**CONFIG, "r": 3}, {**CONFIG, "r": 0}, {**CONFIG, "r": -1}])
def test_a_rank_out_of_bounds_is_refused(adapter: Adapter, model: Path, config: dict[str, object]) -> None:
    (adapter.folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match="expected 1 to 2"):
        check_adapter(adapter, model=model, max_rank=2)


def test_a_rank_that_the_configuration_hides_is_found_in_the_weights(adapter: Adapter, model: Path) -> None:
    write_weights(adapter.folder, a=[3, 4], b=[6, 3])
    with pytest.raises(EngineError, match="rank 3"):
        check_adapter(adapter, model=model, max_rank=2)


@pytest.mark.parametrize("name", ["adapter_model.bin", "optimizer.pt", "rng_state.pth", "x.pkl", "y.ckpt"])
def test_a_pickle_in_the_folder_is_refused_though_there_are_safetensors(
    adapter: Adapter, model: Path, name: str
) -> None:
    (adapter.folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(UnsafeWeightsError, match=name):
        check_adapter(adapter, model=model, max_rank=2)


@pytest.mark.parametrize("raw", ["", "[]", "{", '{"r": 2}', '{"peft_type": "LORA", "r": "2"}', "\udcff"])
def test_a_malformed_configuration_is_named(adapter: Adapter, model: Path, raw: str) -> None:
    (adapter.folder / "adapter_config.json").write_bytes(raw.encode("utf-8", "surrogateescape"))
    with pytest.raises(EngineError, match=r"adapter_config\.json is no PEFT configuration"):
        check_adapter(adapter, model=model, max_rank=2)


def test_another_kind_of_adapter_is_refused(adapter: Adapter, model: Path) -> None:
    (adapter.folder / "adapter_config.json").write_text(json.dumps({**CONFIG, "peft_type": "IA3"}))
    with pytest.raises(EngineError, match="'IA3', expected 'LORA'"):
        check_adapter(adapter, model=model, max_rank=2)


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(adapter: Adapter, model: Path, missing: str) -> None:
    (adapter.folder / missing).unlink()
    with pytest.raises(EngineError, match=missing):
        check_adapter(adapter, model=model, max_rank=2)


def test_a_missing_folder_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="nowhere"):
        check_adapter(Adapter(name="x", folder=tmp_path / "nowhere"), model=model, max_rank=2)


@pytest.mark.parametrize("raw", [b"", b"\xff" * 64, b"\x10" + b"\0" * 7 + b"{}"])
def test_torn_weights_are_named(adapter: Adapter, model: Path, raw: bytes) -> None:
    (adapter.folder / "adapter_model.safetensors").write_bytes(raw)
    with pytest.raises(EngineError, match=r"adapter_model\.safetensors cannot be read"):
        check_adapter(adapter, model=model, max_rank=2)


def test_each_load_has_an_id_and_a_path_of_its_own(adapter: Adapter, tmp_path: Path) -> None:
    table = AdapterTable(base="small")
    ids = [table.next_id(adapter) for _ in range(3)]
    assert ids == [1, 2, 3]
    links = {link_adapter(adapter, load_id, tmp_path) for load_id in ids}
    assert len(links) == 3
    assert {link.resolve() for link in links} == {adapter.folder.resolve()}


def test_a_name_is_loaded_replaced_and_forgotten(adapter: Adapter) -> None:
    table = AdapterTable(base="small")
    first, second = table.next_id(adapter), table.next_id(adapter)
    assert table.put(adapter, first) is None
    replaced = table.put(adapter, second)
    assert replaced is not None
    assert replaced.load_id == first
    assert (table.names, table.all(), table.get("formal").load_id) == (("formal",), [adapter], second)
    assert table.pop("formal").load_id == second
    with pytest.raises(UnknownModelError, match="one of: none"):
        table.get("formal")
    with pytest.raises(EngineError, match="'formal'"):
        table.pop("formal")


def test_the_models_own_name_is_no_name_for_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="own name"):
        AdapterTable(base="small").next_id(Adapter(name="small", folder=tmp_path))


def test_more_adapters_than_are_kept_are_refused_but_replacing_one_is_not(tmp_path: Path) -> None:
    table = AdapterTable(base="small")
    for number in range(MAX_ADAPTERS):
        adapter = Adapter(name=f"a{number}", folder=tmp_path)
        table.put(adapter, table.next_id(adapter))
    table.next_id(Adapter(name="a0", folder=tmp_path))
    with pytest.raises(EngineError, match="one too many"):
        table.next_id(Adapter(name="b", folder=tmp_path))


@pytest.mark.parametrize(("name", "room", "is_told"), [("RLIMIT_AS", 1 << 20, True), ("RLIMIT_DATA", 1 << 40, False)])
def test_a_process_at_its_memory_limit_says_so(
    monkeypatch: pytest.MonkeyPatch, name: str, room: int, is_told: bool
) -> None:
    field = {"RLIMIT_AS": "VmSize:", "RLIMIT_DATA": "VmData:"}[name]
    lines = Path("/proc/self/status").read_text().splitlines()
    used = next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
    limits = {getattr(resource, name): (used + room, used + room)}
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda limit: limits.get(limit, unlimited))
    said = memory_limit_reached()
    assert (name in said) is is_told
    cause = classify(1, f"RuntimeError: x {said}", oom_kills_before=None, oom_kills_after=None)
    assert cause is (DeathCause.OUT_OF_MEMORY if is_told else DeathCause.CRASHED)


def test_a_process_without_a_limit_says_nothing() -> None:
    assert memory_limit_reached() == ""


@dataclass
class FakeManager:
    """Stands for vLLM's StatLoggerManager."""

    recorded: list[dict[str, Any]] = field(default_factory=list)
    slept: bool = False

    def record(self, **options: Any) -> None:
        self.recorded.append(options)

    def record_sleep_state(self) -> None:
        self.slept = True


@dataclass
class SchedulerStats:
    num_running_reqs: int = 3
    num_waiting_reqs: int = 2
    num_skipped_waiting_reqs: int = 1
    kv_cache_usage: float = 0.25


@dataclass
class IterationStats:
    num_preempted_reqs: int = 2


def test_iterations_are_counted_though_vllms_own_metrics_rest() -> None:
    manager = FakeManager()
    recorder = Recorder(manager, is_counting=False)
    recorder.record(scheduler_stats=SchedulerStats(), iteration_stats=IterationStats(), engine_idx=0)
    recorder.record(scheduler_stats=None, iteration_stats=None)
    seen = (recorder.num_iterations, recorder.num_running, recorder.num_waiting, recorder.kv_usage)
    assert (*seen, recorder.num_preemptions) == (2, 3, 3, 0.25, 2)
    assert manager.recorded == []


def test_what_comes_after_the_warmup_reaches_vllms_own_metrics() -> None:
    manager, stats = FakeManager(), SchedulerStats()
    recorder = Recorder(manager, is_counting=False)
    recorder.is_counting = True
    recorder.record(scheduler_stats=stats, iteration_stats=None, engine_idx=0, mm_cache_stats=None)
    assert manager.recorded == [
        {"scheduler_stats": stats, "iteration_stats": None, "engine_idx": 0, "mm_cache_stats": None}
    ]
    recorder.record_sleep_state()
    assert manager.slept


def test_collectors_are_moved_out_of_the_process_wide_registry() -> None:
    before, own = set(collectors()), CollectorRegistry()
    counter = move_collectors(lambda: Counter("pratique_test_moved", "x"), into=own)
    again = move_collectors(lambda: Counter("pratique_test_moved", "x"), into=CollectorRegistry())
    counter.inc()
    assert set(collectors()) == before
    assert b"pratique_test_moved_total 1.0" in generate_latest(own)
    assert again is not counter
    assert REGISTRY.get_sample_value("pratique_test_moved_total") is None


def test_what_a_failed_build_registered_does_not_stay() -> None:
    before = set(collectors())

    def build() -> None:
        Counter("pratique_test_failed", "x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        move_collectors(build, into=CollectorRegistry())
    assert set(collectors()) == before
