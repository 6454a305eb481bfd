"""The files that Envoy watches: each is written beside its place and renamed over it, only where it changed.

Envoy sees a rename as one step, so it never reads half a file, and it keeps the last good one where a new one is wrong.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pratique.fleet.edge import render

if TYPE_CHECKING:
    from pathlib import Path

    from pratique.fleet.edge.config import EdgeConfig

__all__ = ["EdgeFiles"]


class EdgeFiles:
    """The configuration of one Envoy in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.bootstrap = folder / "bootstrap.json"

    def write(self, config: EdgeConfig) -> None:
        """Bring the files to this configuration; a running Envoy follows within milliseconds.

        Another admin port, connection limit or log format takes effect when Envoy starts the next time.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        # What is referred to comes first: a listener never waits for a route, a route never names a missing pool.
        for pool in config.pools:
            self._put(f"endpoints-{pool.name}.json", render.render_endpoints(pool))
        self._put("clusters.json", render.render_clusters(config, self._folder))
        for gate in config.gates:
            self._put(f"routes-{gate.name}.json", render.render_routes(gate))
        self._put("listeners.json", render.render_listeners(config, self._folder))
        self._put("bootstrap.json", render.render_bootstrap(config, self._folder))

    def command(self, envoy: Path, *, workers: int = 2) -> tuple[str, ...]:
        """Return how Envoy is started over these files."""
        options = ("--disable-hot-restart", "--concurrency", str(workers), "--log-level", "warning")
        flush = ("--file-flush-interval-msec", "500")
        return (str(envoy), "--config-path", str(self.bootstrap), *options, *flush)

    def _put(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=1, sort_keys=True)
        path = self._folder / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        draft = path.with_name(f".{name}.new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
