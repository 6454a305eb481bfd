"""Flags, environment and ini values, in their order, and those that mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.options import LeakMode, Options, read_options

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.unit


class FakeConfig:
    def __init__(self, flags: Mapping[str, Any], ini: Mapping[str, Any]) -> None:
        self._flags, self._ini = flags, {"pratique_leaks": "report", "pratique_require": False, **ini}

    def getoption(self, name: str) -> Any:
        return self._flags.get(name)

    def getini(self, name: str) -> Any:
        return self._ini.get(name, "")


def read(fake_service: Any, environment: Mapping[str, str] | None = None, **given: Any) -> Options:
    flags = {name.removeprefix("flag_"): value for name, value in given.items() if name.startswith("flag_")}
    ini = {name.removeprefix("ini_"): value for name, value in given.items() if name.startswith("ini_")}
    config: Any = FakeConfig(flags, ini)
    return read_options(config, {"fake": fake_service}, environment or {})


def test_nothing_given_is_the_default(fake_service: Any) -> None:
    assert read(fake_service) == Options(back_ends={"fake": "auto"})


def test_flag_wins_over_environment_over_ini(fake_service: Any) -> None:
    everything: dict[str, Any] = {"flag_pratique_fake": "native", "ini_pratique_fake": "container"}
    environment = {"PRATIQUE_TEST_FAKE": "process"}
    assert read(fake_service, environment, **everything).back_ends == {"fake": "native"}
    del everything["flag_pratique_fake"]
    assert read(fake_service, environment, **everything).back_ends == {"fake": "process"}
    assert read(fake_service, **everything).back_ends == {"fake": "container"}


def test_service_of_which_nothing_is_said_is_not_looked_up() -> None:
    class Untouched(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise AssertionError(name)

    config: Any = FakeConfig({}, {})
    assert read_options(config, Untouched(fake=None), {}).back_ends == {"fake": "auto"}


def test_url_is_taken_as_it_is(fake_service: Any) -> None:
    assert read(fake_service, flag_pratique_fake="fake://there").back_ends == {"fake": "fake://there"}


@pytest.mark.parametrize(("flag", "ini", "answer"), [(None, False, False), (None, True, True), (True, False, True)])
def test_services_are_required_by_flag_or_ini(fake_service: Any, flag: bool | None, ini: bool, answer: bool) -> None:
    assert read(fake_service, flag_pratique_require=flag, ini_pratique_require=ini).is_required is answer


def test_leaks_by_flag_win_over_ini(fake_service: Any) -> None:
    assert read(fake_service, ini_pratique_leaks="error").leaks is LeakMode.ERROR
    assert read(fake_service, flag_pratique_leaks="off", ini_pratique_leaks="error").leaks is LeakMode.OFF


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ini_pratique_leaks": "sometimes"}, "pratique_leaks is 'sometimes'.*off, report, error"),
        ({"flag_pratique_fake": "moto+http://there"}, "'moto' before the URL http://there is no provider.*native"),
        ({"flag_pratique_fake": "nonsense"}, "'nonsense' is no back end of the service 'fake'"),
        *(
            ({"flag_pratique_reuse_seconds": bad}, "--pratique-reuse-seconds is")
            for bad in (0.0, -1.0, float("nan"), float("inf"))
        ),
    ],
)
def test_value_that_means_nothing_is_refused(fake_service: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(TestkitUsageError, match=said):
        read(fake_service, **given)


def test_reuse_has_a_time(fake_service: Any) -> None:
    assert read(fake_service, flag_pratique_reuse_seconds=5.0).reuse_seconds == 5.0
    assert read(fake_service, flag_pratique_reuse=True).reuse_seconds == 600.0
    assert read(fake_service, flag_pratique_reuse=True, flag_pratique_reuse_seconds=5.0).reuse_seconds == 5.0
    assert read(fake_service).reuse_seconds is None
