"""The plan of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pratique.fleet.processes.marker import MARKER
from pratique.fleet.stack.plan import (
    Plan,
    PlannedService,
    Site,
    make_plan,
    ports_needed,
    replica_bytes,
    valkey_configuration,
)
from pratique.fleet.stack.settings import StackSettings

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit


def find(plan: Plan, name: str) -> PlannedService:
    return next(planned for planned in plan.services if planned.name == name)


def test_the_slowest_starts_first_and_model_servers_load_one_after_the_other(make_site: Callable[..., Site]) -> None:
    plan = make_plan(StackSettings(), make_site())
    assert [(planned.name, planned.after) for planned in plan.services] == [
        ("inference-0", "model"),
        ("inference-1", "inference-0"),
        ("valkey", ""),
        ("edge", ""),
        ("orchestrator-0", ""),
        ("orchestrator-1", ""),
    ]
    assert plan.stop_order == (("orchestrator",), ("inference",), ("edge", "valkey"))


def test_first_run_imports_the_model_and_makes_a_key(make_site: Callable[..., Site]) -> None:
    plan = make_plan(StackSettings(), make_site())
    assert plan.model_import is not None
    assert plan.create_key is not None
    assert plan.model_import.command[4:] == ("model", "import", "small", "--model-root", "/state/models", "--json")
    assert "/state/api-keys.json" in plan.create_key.command


@pytest.mark.parametrize(
    ("settings", "has_model"),
    [
        (StackSettings(), True),
        (StackSettings(engine="simulated"), False),
        (StackSettings(model="/models/mine"), False),
    ],
)
def test_nothing_is_imported_that_is_not_needed(
    make_site: Callable[..., Site], settings: StackSettings, has_model: bool
) -> None:
    plan = make_plan(settings, make_site(has_model=has_model, has_key=True))
    assert plan.model_import is None
    assert plan.create_key is None
    assert find(plan, "inference-0").after == ""


def test_model_server_is_told_everything_by_flags(make_site: Callable[..., Site]) -> None:
    spec = find(make_plan(StackSettings(model="/models/mine"), make_site()), "inference-1").spec
    command = " ".join(spec.program.command)
    assert command == (
        "/venv/bin/python -P -m pratique.cli.main serve inference --name inference-1 --host 127.0.0.1 --port 7"
        " --engine vllm --model-root /state/models --model /models/mine --config /etc/app/pratique.toml"
    )
    assert (spec.address, spec.ready_deadline_seconds) == ("http://127.0.0.1:7", None)


def test_orchestrator_gets_the_password_where_no_other_user_sees_it(make_site: Callable[..., Site]) -> None:
    plan = make_plan(StackSettings(), make_site())
    program = find(plan, "orchestrator-0").spec.program
    assert program.environment["PRATIQUE_ORCHESTRATOR_VALKEY_URL"] == "redis://:sesame@127.0.0.1:3/0"
    assert all("sesame" not in word for planned in plan.services for word in planned.spec.program.command)
    assert "sesame" not in repr(plan)
    statuses = [word for word in program.command if word.startswith("inference-")]
    assert statuses == ["inference-0=http://127.0.0.1:6", "inference-1=http://127.0.0.1:7"]


def test_every_process_carries_the_marker_and_the_users_environment(make_site: Callable[..., Site]) -> None:
    plan = make_plan(StackSettings(), make_site())
    programs = [planned.spec.program for planned in plan.services]
    assert plan.create_key
    assert plan.model_import
    for program in (*programs, plan.create_key, plan.model_import):
        assert program.environment[MARKER] == "key:run"
        assert program.environment["HOME"] == "/home/a"


def test_relative_names_of_the_configuration_mean_files_beside_it(make_site: Callable[..., Site]) -> None:
    assert str(find(make_plan(StackSettings(), make_site()), "orchestrator-0").spec.program.folder) == "/etc/app"
    without = find(make_plan(StackSettings(), make_site(config=None)), "orchestrator-0").spec.program
    assert str(without.folder) == "/state"
    assert "--config" not in without.command


def test_edge_leads_people_to_orchestrators_and_these_to_model_servers(make_site: Callable[..., Site]) -> None:
    plan = make_plan(StackSettings(host="0.0.0.0"), make_site())
    public, internal = plan.edge.gates
    assert (public.host, public.port, public.affinity.cookie) == ("0.0.0.0", 8080, "pratique_affinity")
    assert (internal.host, internal.port, internal.affinity.header) == ("127.0.0.1", 1, "x-pratique-conversation")
    pools = {pool.name: pool for pool in plan.edge.pools}
    assert [endpoint.port for endpoint in pools["orchestrators"].endpoints] == [4, 5]
    assert pools["inference"].health.path == "/ping"
    assert plan.url == "http://127.0.0.1:8080"


def test_valkey_is_private_keeps_nothing_and_evicts_what_is_cold(make_site: Callable[..., Site]) -> None:
    text = valkey_configuration(make_site(), 1 << 20)
    for line in ("bind 127.0.0.1", "port 3", "requirepass sesame", 'save ""', "maxmemory 1048576"):
        assert line in text.splitlines()
    assert "maxmemory-policy volatile-lru" in text


def test_numbers_that_the_preparation_asks_for() -> None:
    assert ports_needed(StackSettings(), 2) == 7
    assert replica_bytes(StackSettings()) > replica_bytes(StackSettings(engine="simulated"))
    assert replica_bytes(StackSettings(replica_memory_bytes=1 << 30)) == 1 << 30
