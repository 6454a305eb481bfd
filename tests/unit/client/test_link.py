from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.client import ClientSettings, TransportKind
from pratique.client._link import Backoff, Link, LinkLostError, TransportChoice
from pratique.client.settings import verify_settings
from pratique.core.settings import SettingsError

pytestmark = pytest.mark.unit

LOST = LinkLostError("cut")


def test_delays_double_from_100_ms_to_5_s() -> None:
    backoff = Backoff(first_seconds=0.1, cap_seconds=5)
    assert [backoff.delay_seconds(attempt, 1.0) for attempt in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    assert [backoff.delay_seconds(attempt, 0.0) for attempt in (0, 1, 7)] == [0.05, 0.1, 2.5]


@given(attempt=st.integers(0, 10_000), unit_random=st.floats(0, 1, exclude_max=True))
def test_a_delay_is_in_the_upper_half_of_its_bound(attempt: int, unit_random: float) -> None:
    full = min(5, 0.1 * 2 ** min(attempt, 60))
    assert full / 2 <= Backoff(first_seconds=0.1, cap_seconds=5).delay_seconds(attempt, unit_random) <= full


def test_five_losses_in_a_row_choose_sse() -> None:
    choice = TransportChoice(ClientSettings())
    for _ in range(4):
        choice.lost(lived_seconds=0.1, is_blameless=False)
    after_four = choice.kind
    choice.lost(lived_seconds=0.1, is_blameless=False)
    assert (after_four, choice.kind) == (TransportKind.WEBSOCKET, TransportKind.SSE)


def test_blameless_losses_stable_connections_and_whole_replies_start_a_new_row() -> None:
    choice = TransportChoice(ClientSettings())
    for _ in range(9):
        choice.lost(lived_seconds=0.1, is_blameless=True)
        choice.lost(lived_seconds=11, is_blameless=False)
    for _ in range(9):
        choice.lost(lived_seconds=0.1, is_blameless=False)
        choice.succeeded()
    assert choice.kind is TransportKind.WEBSOCKET


def test_a_link_gives_up_when_its_patience_is_used_up() -> None:
    link = Link(ClientSettings(reconnect_timeout_seconds=1), random=lambda: 0.0)
    assert link.next_delay_seconds(10.0, LOST) == pytest.approx(0.05)
    assert link.next_delay_seconds(10.5, LOST) == pytest.approx(0.1)
    assert link.next_delay_seconds(11.0, LOST) is None
    assert (link.attempt, link.reconnects) == (2, 2)


def test_progress_starts_everything_over_but_the_count() -> None:
    link = Link(ClientSettings(reconnect_timeout_seconds=1), random=lambda: 0.0)
    link.next_delay_seconds(10.0, LOST)
    link.progressed()
    assert link.next_delay_seconds(20.0, LOST) == pytest.approx(0.05)
    assert (link.attempt, link.reconnects) == (1, 2)


def test_the_server_may_ask_for_a_longer_wait() -> None:
    link = Link(ClientSettings(), random=lambda: 0.0)
    assert link.next_delay_seconds(0.0, LinkLostError("drain", retry_after_seconds=3.0)) == 3.0


def test_settings_out_of_bounds_are_refused() -> None:
    assert verify_settings(ClientSettings()) == ClientSettings()
    with pytest.raises(SettingsError, match="backoff_cap_seconds"):
        verify_settings(ClientSettings(backoff_cap_seconds=-1))
