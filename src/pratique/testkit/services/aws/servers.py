"""What runs the services of AWS here: MiniStack and moto (all four in one server), dynalite, DynamoDB local.

Looks only. A launch opens no port but its own, writes nothing outside its folder, and reaches no container engine.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from pratique.testkit.host.launch import ContainerLaunch, HttpReady, ProcessLaunch
from pratique.testkit.services.interface import Backend, Found, Provider
from pratique.testkit.services.tools import find_npm_file, find_program, find_python_package

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "dynalite",
    "dynamodb_local",
    "ministack",
    "ministack_container",
    "moto",
]

_SERVICES: Final = "dynamodb,dynamodbstreams,s3,sqs,kinesis"
_MINISTACK_READY: Final = HttpReady(path="/_ministack/ready")
_MINISTACK_IMAGE: Final = "docker.io/ministackorg/ministack:1.5.33"
_DYNAMODB_LOCAL_IMAGE: Final = "docker.io/amazon/dynamodb-local:3.3.1"
_NO_ENGINE: Final = "unix://{folder}/no-container-engine"


class _NpmPackage(msgspec.Struct):
    version: str = "unknown"


def ministack(gaps: Mapping[str, str]) -> Provider:
    """MiniStack as a process, from its Python package."""
    return Provider(name="ministack", backend=Backend.PROCESS, find=_find_ministack, gaps=gaps, server="ministack")


def ministack_container(gaps: Mapping[str, str]) -> Provider:
    """MiniStack in its own image, of the same version."""
    environment = {"SERVICES": _SERVICES, "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0"}
    launch = ContainerLaunch(image=_MINISTACK_IMAGE, port=4566, ready=_MINISTACK_READY, environment=environment)
    return Provider(
        name="ministack-container",
        backend=Backend.CONTAINER,
        find=partial(_find_container, launch),
        gaps=gaps,
        server="ministack",
    )


def moto(gaps: Mapping[str, str]) -> Provider:
    """The server of moto, a second opinion."""
    return Provider(name="moto", backend=Backend.PROCESS, find=_find_moto, gaps=gaps, server="moto")


def dynalite(gaps: Mapping[str, str]) -> Provider:
    """dynalite, from npm: DynamoDB alone."""
    return Provider(name="dynalite", backend=Backend.PROCESS, find=_find_dynalite, gaps=gaps)


def dynamodb_local(gaps: Mapping[str, str]) -> Provider:
    """Amazon's own, in its image: DynamoDB alone."""
    command = ("-jar", "DynamoDBLocal.jar", "-inMemory", "-sharedDb", "-disableTelemetry")
    # It answers a GET that names no operation with 400.
    launch = ContainerLaunch(
        image=_DYNAMODB_LOCAL_IMAGE, port=8000, ready=HttpReady(statuses=(200, 400)), command=command
    )
    return Provider(name="dynamodb-local", backend=Backend.CONTAINER, find=partial(_find_container, launch), gaps=gaps)


def _find_ministack() -> Found:
    version = find_python_package("ministack", extra="testkit")
    environment = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": "{port}",
        "SERVICES": _SERVICES,
        "IOT_MTLS_ENABLED": "0",  # else a broker on port 8883
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": _NO_ENGINE,  # else it removes other runs' containers when it starts
        "TMPDIR": "{folder}",
        "S3_DATA_DIR": "{folder}/s3",
        "STATE_DIR": "{folder}/state",
        "PERSIST_STATE": "0",
        "S3_PERSIST": "0",
        "LOCALSTACK_PERSISTENCE": "0",
        "USE_SSL": "0",
        "AUTH": "false",
    }
    launch = ProcessLaunch(command=(sys.executable, "-m", "ministack"), ready=_MINISTACK_READY, environment=environment)
    return Found(launch=launch, version=version)


def _find_moto() -> Found:
    version = find_python_package("moto", extra="testkit-moto")
    find_python_package("flask", extra="testkit-moto")  # of moto's extra `server`
    environment = {"TMPDIR": "{folder}", "DOCKER_HOST": _NO_ENGINE}
    launch = ProcessLaunch(
        command=(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "{port}"),
        ready=HttpReady(path="/moto-api/"),
        environment=environment,
    )
    return Found(launch=launch, version=version)


def _find_dynalite() -> Found:
    node = find_program("node", hint="Install Node.js 20 or newer.")
    program = find_npm_file("dynalite", "cli.js")
    quick = ("--createTableMs", "0", "--deleteTableMs", "0", "--updateTableMs", "0")
    launch = ProcessLaunch(
        command=(str(node), str(program), "--host", "127.0.0.1", "--port", "{port}", *quick),
        ready=HttpReady(path="/", statuses=(200,)),
    )
    return Found(launch=launch, version=_npm_version(program.parent))


def _npm_version(folder: Path) -> str:
    about = msgspec.json.decode((folder / "package.json").read_bytes(), type=_NpmPackage)
    return about.version


def _find_container(launch: ContainerLaunch) -> Found:
    from pratique.testkit.host.container import require_engine

    require_engine()
    return Found(launch=launch, version=launch.image.rpartition(":")[2])
