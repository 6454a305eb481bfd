"""`EdgeConfig` in Envoy's words: one static bootstrap, and the resources that Envoy watches as files.

Pure. Each kind of resource is a file of its own, because each changes alone: endpoints and weights change without
touching a listener or a connection (EDS, RDS), listeners and clusters only when the edge gets another shape (LDS, CDS).

Streams are never buffered and never timed out here: how long a token may take is the orchestrator's decision. Retries
happen only where the request cannot have reached a replica.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from pratique.fleet.edge.config import Affinity, EdgeConfig, Endpoint, Gate, Pool

__all__ = ["render_bootstrap", "render_clusters", "render_endpoints", "render_listeners", "render_routes"]

_TYPE: Final = "type.googleapis.com/envoy"
_MANY: Final = 1_000_000
_RETRY_ON: Final = "connect-failure,refused-stream,reset-before-request"
_PRIVATE: Final = ("/metrics", "/readyz")
"""Of a replica, for those who run it: they ask at its own address. Strangers would see its figures, and have it ask
its store."""
_PUBLIC_IDLE: Final = "120s"
"""Of a stranger's connection without a request, the first one included: there is a bound on how many there are. As long
as a replica's own; a WebSocket is a request that goes on."""
_UNACKNOWLEDGED_MS: Final = 60_000
_ANOTHER_HOST_TRIES: Final = 16
"""A ring gives the same replica several times running; with two replicas all tries miss once in 65,536 retries."""


def render_bootstrap(config: EdgeConfig, folder: Path) -> dict[str, Any]:
    """Return what Envoy is started with; everything that can change is read from files in `folder`."""
    return {
        "node": {"id": "pratique-edge", "cluster": "pratique"},
        "admin": {"address": _address("127.0.0.1", config.admin_port)},
        "application_log_config": {
            "log_format": {
                "json_format": {
                    "timestamp": "%Y-%m-%dT%H:%M:%S.%eZ",
                    "level": "%l",
                    "room": "%n",
                    "event": "%j",
                }
            }
        },
        "dynamic_resources": {
            "lds_config": _watched(folder / "listeners.json"),
            "cds_config": _watched(folder / "clusters.json"),
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": (
                            f"{_TYPE}.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
                        ),
                        "max_active_downstream_connections": config.max_connections,
                    },
                }
            ]
        },
    }


def render_listeners(config: EdgeConfig, folder: Path) -> dict[str, Any]:
    """Return the listener of every gate."""
    return _resources("config.listener.v3.Listener", [_listener(gate, config, folder) for gate in config.gates])


def render_routes(gate: Gate) -> dict[str, Any]:
    """Return the gate's way to its pools."""
    action: dict[str, Any] = {
        "timeout": "0s",
        "idle_timeout": "0s",
        "hash_policy": _hash_policy(gate.affinity),
        "retry_policy": {
            "retry_on": _RETRY_ON,
            "num_retries": 2,
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": f"{_TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                    },
                }
            ],
            "host_selection_retry_max_attempts": _ANOTHER_HOST_TRIES,
            "retry_back_off": {"base_interval": "0.010s", "max_interval": "0.050s"},
        },
    }
    if len(gate.shares) == 1:
        action["cluster"] = gate.shares[0].pool
    else:
        action["weighted_clusters"] = {
            "use_hash_policy": True,
            "clusters": [{"name": share.pool, "weight": share.weight} for share in gate.shares],
        }
    shut = [{"match": {"path": path}, "direct_response": {"status": 404}} for path in _PRIVATE if gate.is_public]
    host = {"name": gate.name, "domains": ["*"], "routes": [*shut, {"match": {"prefix": "/"}, "route": action}]}
    return _resources("config.route.v3.RouteConfiguration", [{"name": gate.name, "virtual_hosts": [host]}])


def render_clusters(config: EdgeConfig, folder: Path) -> dict[str, Any]:
    """Return every pool without its endpoints."""
    return _resources("config.cluster.v3.Cluster", [_cluster(pool, config, folder) for pool in config.pools])


def render_endpoints(pool: Pool) -> dict[str, Any]:
    """Return the pool's replicas."""
    return _resources(
        "config.endpoint.v3.ClusterLoadAssignment",
        [
            {
                "cluster_name": pool.name,
                "endpoints": [{"lb_endpoints": [_endpoint(endpoint) for endpoint in pool.endpoints]}],
            }
        ],
    )


def _listener(gate: Gate, config: EdgeConfig, folder: Path) -> dict[str, Any]:
    return {
        "name": gate.name,
        "address": _address(gate.host, gate.port),
        "per_connection_buffer_limit_bytes": config.buffer_bytes,
        "socket_options": [_unacknowledged()] if gate.is_public else [],
        "filter_chains": [
            {"filters": [{"name": "http", "typed_config": _connection_manager(gate, folder)}]},
        ],
    }


def _unacknowledged() -> dict[str, Any]:
    """Cut who takes nothing of an answer, as replicas do after half that time.

    It waits here whole, for ever: Envoy's own time-outs would also end streams that are only silent.
    """
    option = {"level": socket.IPPROTO_TCP, "name": socket.TCP_USER_TIMEOUT, "int_value": _UNACKNOWLEDGED_MS}
    return {**option, "state": "STATE_PREBIND"}


def _connection_manager(gate: Gate, folder: Path) -> dict[str, Any]:
    return {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": gate.name,
        "codec_type": "AUTO",
        "rds": {"route_config_name": gate.name, "config_source": _watched(folder / f"routes-{gate.name}.json")},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.router.v3.Router"}}
        ],
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "use_remote_address": gate.is_public,
        "generate_request_id": True,
        "always_set_request_id_in_response": True,
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": True,
        "stream_idle_timeout": "0s",
        "request_timeout": "0s",
        # Envoy waits a second before it closes a stream whose upstream died; whoever resumes would wait with it.
        "delayed_close_timeout": "0.010s",
        "request_headers_timeout": "10s" if gate.is_public else "0s",
        "max_request_headers_kb": 32,
        "common_http_protocol_options": {
            "idle_timeout": _PUBLIC_IDLE if gate.is_public else "3600s",
            "max_headers_count": 100,
            "headers_with_underscores_action": "REJECT_REQUEST" if gate.is_public else "ALLOW",
        },
        "http2_protocol_options": {"max_concurrent_streams": 256},
        "access_log": [_access_log(gate)],
        "local_reply_config": {"mappers": [_unavailable(gate)]},
    }


def _unavailable(gate: Gate) -> dict[str, Any]:
    return {
        "filter": {
            "status_code_filter": {
                "comparison": {"op": "EQ", "value": {"default_value": 503, "runtime_key": "pratique.unavailable"}}
            }
        },
        "headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
        "body_format_override": {
            "json_format": {
                "error": {
                    "code": "no_replica",
                    "message": gate.unavailable_message,
                    "hint": "`pratique status` shows what every replica is doing.",
                    "retryable": True,
                }
            }
        },
    }


def _access_log(gate: Gate) -> dict[str, Any]:
    fields = {
        "timestamp": "%START_TIME%",
        "event": "request",
        "gate": gate.name,
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",
        "protocol": "%PROTOCOL%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "why": "%RESPONSE_CODE_DETAILS%",
        "milliseconds": "%DURATION%",
        "milliseconds_to_first_byte": "%RESPONSE_DURATION%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "pool": "%UPSTREAM_CLUSTER%",
        "upstream": "%UPSTREAM_HOST%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "request_id": "%REQ(X-REQUEST-ID)%",
    }
    return {
        "name": "stdout",
        "typed_config": {
            "@type": f"{_TYPE}.extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {"json_format": fields},
        },
    }


def _hash_policy(affinity: Affinity) -> list[dict[str, Any]]:
    policies: list[dict[str, Any]] = [{"header": {"header_name": affinity.header}, "terminal": True}]
    if affinity.cookie:
        policies.append({"cookie": {"name": affinity.cookie}, "terminal": True})
    return policies


def _cluster(pool: Pool, config: EdgeConfig, folder: Path) -> dict[str, Any]:
    plenty = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), _MANY)
    return {
        "name": pool.name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _watched(folder / f"endpoints-{pool.name}.json")},
        "lb_policy": "RING_HASH",
        "ring_hash_lb_config": {"minimum_ring_size": 1024},
        "connect_timeout": _seconds(pool.connect_timeout_seconds),
        "per_connection_buffer_limit_bytes": config.buffer_bytes,
        # By default a second change of health within a second waits for that second to pass.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}, "update_merge_window": "0s"},
        "ignore_health_on_host_removal": True,
        "circuit_breakers": {"thresholds": [plenty]},
        "health_checks": [_health_check(pool)],
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": _seconds(pool.idle_timeout_seconds)},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _health_check(pool: Pool) -> dict[str, Any]:
    health = pool.health
    interval = _seconds(health.interval_seconds)
    return {
        "timeout": _seconds(health.timeout_seconds),
        "interval": interval,
        # By default a pool without traffic is looked at once a minute.
        "no_traffic_interval": interval,
        "unhealthy_threshold": health.unhealthy_threshold,
        "healthy_threshold": health.healthy_threshold,
        "http_health_check": {"path": health.path, "host": "edge.pratique"},
    }


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "endpoint": {"address": _address(endpoint.host, endpoint.port)},
        "metadata": {"filter_metadata": {"envoy.lb": {"hash_key": endpoint.name}}},
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _watched(path: Path) -> dict[str, Any]:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _resources(kind: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resources": [{"@type": f"{_TYPE}.{kind}", **resource} for resource in resources]}


def _seconds(value: float) -> str:
    return f"{value:.3f}s"
