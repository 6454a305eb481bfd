"""AWS as far as the targets need it: moto behind HTTP, and before it what moto does not do.

moto keeps task definitions, services, rules, models and configurations. What is simulated here: that tasks start (after
a few questions, or never), target health, endpoints (they take a while, refuse a second change, go back where an image
is bad), CloudWatch's percentiles; and faults: throttled, denied, an answer that is lost after the change was made.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import urllib3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

__all__ = ["AwsSimulator", "Fault", "Measured"]

_CREDENTIAL = re.compile(r"Credential=[^/]+/[^/]+/([^/]+)/([^/]+)/")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Fault:
    """What happens to a call once: an error before anything is done, or a lost answer after."""

    operation: str
    code: str
    status: int = 400
    is_done: bool = False
    times: int = 1


@dataclass(frozen=True)
class Measured:
    """Values of one metric in one minute. A count is one value that is its sum."""

    metric: str
    dimension: str
    minute: datetime
    values: tuple[float, ...]


@dataclass
class _Endpoint:
    name: str
    config: str
    variants: list[dict[str, Any]]
    status: str
    left: int
    pending: str | None = None
    failure: str | None = None
    weights: dict[str, dict[str, Any]] = field(default_factory=dict)


class _Quiet(MotoRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's own name
        pass


class AwsSimulator:
    """One account, gone when it is closed."""

    def __init__(self, *, slow: int = 1) -> None:
        self.slow = slow
        self.sick: set[str] = set()
        self.calls: list[str] = []
        self.measured: list[Measured] = []
        self.before: Callable[[str], None] | None = None
        self._faults: list[Fault] = []
        self._images: dict[str, str] = {}
        self._groups: dict[str, str] = {}
        self._running: dict[str, tuple[str, int]] = {}
        self._waits: dict[str, int] = {}
        self._ready: dict[str, int] = {}
        self._bodies: dict[str, dict[str, Any]] = {}
        self._endpoints: dict[str, _Endpoint] = {}
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        # moto's account is the process's; the next one begins empty.
        urllib3.request("POST", f"{self.url}/moto-api/reset", timeout=10.0)
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def calm(self, *, slow: int = 1) -> None:
        """Have everything go well again."""
        self.slow, self.before = slow, None
        for one in (self.sick, self.calls, self.measured, self._faults):
            one.clear()

    def add(self, *faults: Fault) -> None:
        for fault in faults:
            self._faults += [fault] * fault.times

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # Read at once, so that it can be read again.
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        request = Request(environ)
        operation = _operation(request)
        environ["wsgi.input"].seek(0)
        if operation is None:
            answer: Iterable[bytes] = self._moto(environ, start_response)
            return answer
        self.calls.append(operation)
        if self.before is not None:
            self.before(operation)
        fault = next((one for one in self._faults if one.operation == operation), None)
        if fault is not None:
            self._faults.remove(fault)
        if fault is not None and not fault.is_done:
            return _error(request, fault.code, fault.status)(environ, start_response)
        handler = getattr(self, f"_do_{operation}", None)
        response = handler(request) if handler else self._ask_moto(request)
        if fault is not None:
            response = _error(request, fault.code, fault.status)
        return response(environ, start_response)

    def _ask_moto(self, request: Request) -> Response:
        request.environ["wsgi.input"].seek(0)
        return Response.from_app(self._moto, request.environ, buffered=True)

    # ECS: tasks run after a few questions, or never

    def _do_RegisterTaskDefinition(self, request: Request) -> Response:  # noqa: N802 - AWS's name
        response = self._ask_moto(request)
        made = json.loads(response.data)["taskDefinition"]
        self._images[made["taskDefinitionArn"]] = made["containerDefinitions"][0]["image"]
        return response

    def _do_CreateService(self, request: Request) -> Response:  # noqa: N802
        body = request.get_json(force=True)
        for one in body.get("loadBalancers", []):
            self._groups[one["targetGroupArn"]] = body["serviceName"]
        return self._ask_moto(request)

    def _do_DescribeServices(self, request: Request) -> Response:  # noqa: N802
        response = self._ask_moto(request)
        answer = json.loads(response.data)
        for service in answer["services"]:
            self._start(service)
        response.data = json.dumps(answer)
        return response

    def _start(self, service: dict[str, Any]) -> None:
        name, wanted = service["serviceName"], (service["taskDefinition"], service["desiredCount"])
        if self._running.get(name) != wanted:
            self._running[name] = wanted
            self._waits[name] = self.slow
        elif self._waits[name]:
            self._waits[name] -= 1
        is_sick = any(digest in self.sick for digest in _DIGEST.findall(self._images.get(wanted[0], "")))
        ready = 0 if self._waits[name] or is_sick else wanted[1]
        self._ready[name] = ready
        service["runningCount"] = ready
        service["deployments"] = [
            {
                "id": "ecs-svc/1",
                "status": "PRIMARY",
                "taskDefinition": wanted[0],
                "desiredCount": wanted[1],
                "runningCount": ready,
                "rolloutState": "FAILED" if is_sick and not self._waits[name] else "COMPLETED",
                "rolloutStateReason": "ECS deployment circuit breaker: tasks failed to start." if is_sick else "",
            }
        ]

    def _do_DescribeTargetHealth(self, request: Request) -> Response:  # noqa: N802
        group = request.form["TargetGroupArn"]
        healthy = self._ready.get(self._groups[group], 0)
        members = "".join(
            f"<member><Target><Id>10.0.0.{number}</Id><Port>80</Port></Target>"
            "<TargetHealth><State>healthy</State></TargetHealth></member>"
            for number in range(healthy)
        )
        return Response(
            '<DescribeTargetHealthResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/">'
            f"<DescribeTargetHealthResult><TargetHealthDescriptions>{members}</TargetHealthDescriptions>"
            "</DescribeTargetHealthResult></DescribeTargetHealthResponse>",
            mimetype="text/xml",
        )

    # SageMaker: endpoints take a while

    def _do_CreateModel(self, request: Request) -> Response:  # noqa: N802
        return self._remember(request, "ModelName")

    def _do_CreateEndpointConfig(self, request: Request) -> Response:  # noqa: N802
        return self._remember(request, "EndpointConfigName")

    def _remember(self, request: Request, key: str) -> Response:
        body = request.get_json(force=True)
        self._bodies[f"{key} {body[key]}"] = body
        return self._ask_moto(request)

    def _do_CreateEndpoint(self, request: Request) -> Response:  # noqa: N802
        body = request.get_json(force=True)
        name, config = body["EndpointName"], body["EndpointConfigName"]
        if name in self._endpoints:
            return _error(request, "ValidationException", 400, "Cannot create already existing endpoint")
        self._endpoints[name] = _Endpoint(name, config, [], "Creating", self.slow, pending=config)
        return _json({"EndpointArn": f"arn:aws:sagemaker:eu-central-1:123456789012:endpoint/{name}"})

    def _do_UpdateEndpoint(self, request: Request) -> Response:  # noqa: N802
        body = request.get_json(force=True)
        return self._change(request, body["EndpointName"], pending=body["EndpointConfigName"])

    def _do_UpdateEndpointWeightsAndCapacities(self, request: Request) -> Response:  # noqa: N802
        body = request.get_json(force=True)
        wanted = {one["VariantName"]: one for one in body["DesiredWeightsAndCapacities"]}
        return self._change(request, body["EndpointName"], weights=wanted)

    def _change(
        self,
        request: Request,
        name: str,
        *,
        pending: str | None = None,
        weights: dict[str, dict[str, Any]] | None = None,
    ) -> Response:
        endpoint = self._endpoints[name]
        if endpoint.status != "InService":
            return _error(request, "ValidationException", 400, "Cannot update in-progress endpoint")
        endpoint.status, endpoint.left = "Updating", self.slow
        endpoint.pending, endpoint.weights = pending, weights or {}
        return _json({"EndpointArn": f"arn:aws:sagemaker:eu-central-1:123456789012:endpoint/{name}"})

    def _do_DescribeEndpoint(self, request: Request) -> Response:  # noqa: N802
        name = request.get_json(force=True)["EndpointName"]
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            return _error(request, "ValidationException", 400, f'Could not find endpoint "{name}".')
        self._settle(endpoint)
        return _json(
            {
                "EndpointName": name,
                "EndpointArn": f"arn:aws:sagemaker:eu-central-1:123456789012:endpoint/{name}",
                "EndpointConfigName": endpoint.config,
                "ProductionVariants": endpoint.variants,
                "EndpointStatus": endpoint.status,
                "CreationTime": 1.0,
                "LastModifiedTime": 1.0,
                **({"FailureReason": endpoint.failure} if endpoint.failure else {}),
            }
        )

    def _settle(self, endpoint: _Endpoint) -> None:
        if endpoint.status in {"InService", "Failed"}:
            return
        if endpoint.left:
            endpoint.left -= 1
            return
        if endpoint.pending is not None:
            self._replace(endpoint, endpoint.pending)
        for variant in endpoint.variants:
            change = endpoint.weights.get(variant["VariantName"], {})
            weight = struct.unpack("f", struct.pack("f", change.get("DesiredWeight", variant["CurrentWeight"])))[0]
            count = change.get("DesiredInstanceCount", variant["CurrentInstanceCount"])
            variant |= {"CurrentWeight": weight, "DesiredWeight": weight}
            variant |= {"CurrentInstanceCount": count, "DesiredInstanceCount": count}
        endpoint.pending, endpoint.weights = None, {}
        endpoint.status = endpoint.status if endpoint.status == "Failed" else "InService"

    def _replace(self, endpoint: _Endpoint, config: str) -> None:
        images = {
            one["VariantName"]: self._bodies[f"ModelName {one['ModelName']}"]["PrimaryContainer"]["Image"]
            for one in self._bodies[f"EndpointConfigName {config}"]["ProductionVariants"]
        }
        if any(digest in self.sick for image in images.values() for digest in _DIGEST.findall(image)):
            endpoint.failure = "The container did not pass the ping health check."
            endpoint.status = "Failed" if endpoint.status == "Creating" else "InService"
            return
        endpoint.config, endpoint.failure = config, None
        endpoint.variants = [
            {
                "VariantName": one["VariantName"],
                "DeployedImages": [{"SpecifiedImage": images[one["VariantName"]]}],
                "CurrentWeight": one["InitialVariantWeight"],
                "DesiredWeight": one["InitialVariantWeight"],
                "CurrentInstanceCount": one["InitialInstanceCount"],
                "DesiredInstanceCount": one["InitialInstanceCount"],
            }
            for one in self._bodies[f"EndpointConfigName {config}"]["ProductionVariants"]
        ]

    # CloudWatch: percentiles of what was measured

    def _do_GetMetricData(self, request: Request) -> Response:  # noqa: N802
        body = request.data
        asked = json.loads(gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body)
        results = []
        for query in asked["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]
            dimensions = {one["Value"] for one in metric["Dimensions"]}
            found = [
                one
                for one in self.measured
                if one.metric == metric["MetricName"]
                and one.dimension in dimensions
                and asked["StartTime"] <= one.minute.timestamp() < asked["EndTime"]
            ]
            results.append(
                {
                    "Id": query["Id"],
                    "Label": query["Id"],
                    "StatusCode": "Complete",
                    "Timestamps": [one.minute.timestamp() for one in found],
                    "Values": [_statistic(query["MetricStat"]["Stat"], one.values) for one in found],
                }
            )
        return _json({"MetricDataResults": results, "Messages": []})


def _operation(request: Request) -> str | None:
    if target := request.headers.get("X-Amz-Target"):
        return target.rpartition(".")[2]
    if not _CREDENTIAL.search(request.headers.get("Authorization", "")):
        return None
    return parse_qs(request.get_data(as_text=True, cache=True)).get("Action", [None])[0]


def _error(request: Request, code: str, status: int, message: str = "scripted") -> Response:
    if request.headers.get("X-Amz-Target"):
        return Response(json.dumps({"__type": code, "message": message}), status, mimetype="application/x-amz-json-1.1")
    text = (
        f"<ErrorResponse><Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error></ErrorResponse>"
    )
    return Response(text, status, mimetype="text/xml")


def _json(answer: dict[str, Any]) -> Response:
    return Response(json.dumps(answer), mimetype="application/x-amz-json-1.1")


def _statistic(name: str, values: tuple[float, ...]) -> float:
    if name == "Sum":
        return sum(values)
    if name == "SampleCount":
        return float(len(values))
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(float(name[1:]) / 100 * len(ordered)) - 1))]
