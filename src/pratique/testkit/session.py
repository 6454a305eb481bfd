"""What one process of a run has: its options from the start, its host and its kit from when they are first needed.

Most runs of most users need neither, so nothing of them is imported before. Under xdist the controller owns the host;
workers are told its address.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pratique.testkit.services.catalogue import make_services

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit.host.client import HostClient
    from pratique.testkit.host.owner import OwnedHost
    from pratique.testkit.host.reuse import ReusedHost
    from pratique.testkit.kit import Kit
    from pratique.testkit.options import Options

__all__ = ["KitSession"]


class KitSession:
    """One per process. Made where pytest is configured, in the main thread."""

    def __init__(self, options: Options, *, run: str, worker: str = "", address: str = "", controller: int = 0) -> None:
        self.options = options
        self.run = run
        """Part of the names of namespaces, the same in all workers."""
        self._worker = worker
        self._address = address
        self._controller = controller
        self._parent = os.getppid()
        self._pid = os.getpid()

    @property
    def has_kit(self) -> bool:
        """Whether anything was asked of the kit so far."""
        return "kit" in vars(self)

    @cached_property
    def kit(self) -> Kit:
        """What gives endpoints and namespaces."""
        from pratique.testkit.kit import Kit

        services = make_services()
        return Kit(services=services, options=self.options, host=self._client, run=self.run, worker=self._worker)

    @cached_property
    def host(self) -> OwnedHost | ReusedHost | None:
        """The host that this process has to do with; None in a worker, whose controller owns it."""
        if self.options.reuse_seconds is not None:
            from pratique.testkit.host.reuse import ReusedHost, reuse_folder

            folder = Path(self._address).parent if self._address else reuse_folder()
            return ReusedHost(folder, idle_seconds=self.options.reuse_seconds)
        if self._address:
            return None
        from pratique.testkit.host.owner import OwnedHost

        return OwnedHost()

    @property
    def was_host_asked(self) -> bool:
        """Whether anybody has asked for a server so far."""
        return "host" in vars(self) and self.host is not None and self.host.was_asked()

    def serve_workers(self) -> str:
        """Have a host that starts when a worker asks; return its address."""
        host = self.host
        assert host is not None  # noqa: S101 - a worker has no workers
        host.serve_workers()
        return str(host.client.address)

    def close(self) -> None:
        """End the host, where it is this process's."""
        if os.getpid() == self._pid:
            self._tidy_after_controller()
        host = vars(self).pop("host", None)
        if host is not None:
            host.close()

    def end_with_controller(self) -> None:
        """End a worker whose controller died, perhaps before this worker looked who its parent is, and tidy up."""
        if self._tidy_after_controller():
            os._exit(1)

    def _tidy_after_controller(self) -> bool:
        """Remove the folder that the controller had made, if it is dead; nobody else may have noticed."""
        if self._controller in {0, os.getppid()}:
            return False
        from pratique.core import procfs
        from pratique.testkit.host.remains import RUN_PREFIX, sweep

        if procfs.is_alive(self._controller):  # another process started this worker for it
            return False
        sweep(RUN_PREFIX)
        return True

    @property
    def _client(self) -> HostClient:
        if self.host is not None:
            return self.host.client
        from pratique.testkit.host.client import HostClient

        return HostClient(Path(self._address), prepare=self._die_with_controller())

    def _die_with_controller(self) -> Callable[[], None]:
        """A worker whose controller is gone would stay in its test for as long as that takes, and use dead servers."""
        from pratique.testkit.host.remains import die_with_parent

        def prepare() -> None:
            if os.getpid() == self._pid:  # a child that a test forked has another parent
                self.end_with_controller()
                die_with_parent(self._parent)

        return prepare
