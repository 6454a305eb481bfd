"""The function, packed as it is deployed, run by an emulator of AWS, called through the lane.

MiniStack runs AWS's managed Python runtime's contract (`handle`, buffered) and sends an answer when it is whole; what
streams is tested against the double.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import sys
import zipfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import boto3
import pytest

import pratique
from pratique.core.clock import SystemClock
from pratique.orchestrator.forward.interface import ForwardUnavailableError
from pratique.orchestrator.lanes.lambda_lane import LambdaLane
from pratique.orchestrator.lanes.settings import LambdaSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.integration

FILES = ("__init__.py", "orchestrator/__init__.py", "orchestrator/lanes/__init__.py", "orchestrator/lanes/handler.py")
HANDLER = "pratique.orchestrator.lanes.handler.handle"


def package() -> bytes:
    root, buffer = Path(pratique.__file__).parent, io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in FILES:
            archive.writestr(f"pratique/{name}", (root / name).read_bytes())
    return buffer.getvalue()


@asynccontextmanager
async def ministack(folder: Path) -> AsyncIterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "COVERAGE_PROCESS_CONFIG": "",  # the copy in its folder is not this project's source
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "lambda,iam",
        "DOCKER_HOST": "unix:///nowhere",
        "TMPDIR": str(folder),
        "STATE_DIR": str(folder),
        "LAMBDA_EXECUTOR": "local",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    log = (folder / "ministack.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ministack"), env=environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
        await _ready(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()
        log.close()


async def _ready(url: str) -> None:
    async with asyncio.timeout(60), aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(f"{url}/_ministack/ready") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


def deploy(endpoint: str, inference_url: str) -> None:
    client: Any = boto3.client("lambda", region_name="us-east-1", endpoint_url=endpoint)
    client.create_function(
        FunctionName="burst",
        Runtime="python3.12",
        Role="arn:aws:iam::000000000000:role/burst",
        Handler=HANDLER,
        Code={"ZipFile": package()},
        Timeout=30,
        Environment={"Variables": {"PRATIQUE_BURST_INFERENCE_URL": inference_url}},
    )
    client.close()


async def test_packed_function_answers_and_fails_through_the_lane(
    upstream: Any, ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    async with ministack(tmp_path) as endpoint:
        await asyncio.to_thread(deploy, endpoint, upstream.url)
        settings = LambdaSettings(function="burst", region="us-east-1", endpoint_url=endpoint)
        async with LambdaLane(settings, clock=SystemClock()).running() as lane:
            async with lane.open(ask()) as answer:
                assert (answer.status, answer.lane) == (200, "burst")
                assert b"".join([chunk async for chunk in answer.chunks()]) == b"data: one\n\ndata: two\n\n"
            async with lane.open(ask("refuse")) as answer:
                assert answer.status == 404
            with pytest.raises(ForwardUnavailableError):
                async with lane.open(ask("edge")):
                    pass
    assert upstream.seen[0]["x-trace"] == "1"
