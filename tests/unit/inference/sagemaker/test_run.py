"""Where the shim may listen, and what it says of itself."""

from __future__ import annotations

import asyncio
import signal

import pytest
import structlog

from pratique.core.settings import SettingsError, load_settings
from pratique.inference.sagemaker.run import RemoteRefusedError, serve, verify_address
from pratique.inference.sagemaker.settings import SageMakerSettings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
async def test_an_address_that_others_reach_is_refused(host: str) -> None:
    settings = SageMakerSettings(host=host, endpoints=("chat=http://127.0.0.1:1",))
    with pytest.raises(RemoteRefusedError, match="does not check signatures") as caught:
        await serve(settings, lambda _: None)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("host", "allow_remote"),
    [("127.0.0.1", False), ("127.9.9.9", False), ("localhost", False), ("::1", False), ("::", True)],
)
def test_ones_own_machine_and_what_was_allowed_may_be_listened_on(host: str, allow_remote: bool) -> None:
    verify_address(SageMakerSettings(host=host, allow_remote=allow_remote))


async def test_it_says_where_it_listens_and_that_it_checks_no_signature() -> None:
    settings = SageMakerSettings(port=0, endpoints=("chat=http://127.0.0.1:1",))
    announced: asyncio.Queue[str] = asyncio.Queue()
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(serve(settings, announced.put_nowait))
        async with asyncio.timeout(5):
            assert (await announced.get()).startswith("http://127.0.0.1:")
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await running
    assert logs[0]["event"] == "signatures_not_checked"
    assert logs[0]["log_level"] == "warning"


def test_settings_out_of_their_bounds_are_refused() -> None:
    with pytest.raises(SettingsError, match="timeout_seconds"):
        load_settings(SageMakerSettings, part="sagemaker", overrides={"timeout_seconds": 0})
