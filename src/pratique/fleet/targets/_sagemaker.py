"""Requests to SageMaker, and what its answers say. Pure.

Models and endpoint configurations never change, so each is named by the hash of what it holds: making one again that is
there already is no second one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from pratique.fleet.targets._slots import PARTS, SLOTS, Shift, Slot, SlotName, Slots, parts_of
from pratique.fleet.targets.interface import Health, TargetError

__all__ = [
    "digest_of_image",
    "health_of",
    "is_shifted",
    "next_config",
    "next_model",
    "next_variant",
    "read_slots",
    "variant_of",
    "weights_and_capacities",
]

_Json = Mapping[str, Any]

_MODEL: Final = ("PrimaryContainer", "Containers", "ExecutionRoleArn", "VpcConfig", "EnableNetworkIsolation")
_CONFIG: Final = (
    "DataCaptureConfig",
    "KmsKeyId",
    "AsyncInferenceConfig",
    "ExplainerConfig",
    "ExecutionRoleArn",
    "VpcConfig",
    "EnableNetworkIsolation",
    "MetricsConfig",
)
"""What is copied from one to the next, where it says something."""
_SERVING: Final = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack"})
_MAX_NAME: Final = 63


def digest_of_image(image: str) -> str | None:
    """Return the digest that an image is named by."""
    _, separator, digest = image.rpartition("@")
    return digest if separator and digest.startswith("sha256:") else None


def read_slots(endpoint: _Json | None, variants: Mapping[SlotName, str]) -> Slots:
    """Return what an endpoint runs; nothing where there is none.

    Raises:
        TargetError: it has variants that are no slots, or one without instances of its own.
    """
    if endpoint is None:
        return Slots()
    found = {one["VariantName"]: one for one in endpoint.get("ProductionVariants", [])}
    if strange := set(found) - set(variants.values()):
        raise TargetError(
            f"the endpoint '{endpoint['EndpointName']}' has the variants {sorted(strange)},"
            f" expected only {sorted(variants.values())}",
            hint="Name its variants in the target's settings.",
        )
    weights = parts_of(*(found.get(variants[slot], {}).get("CurrentWeight", 0.0) for slot in SLOTS))
    a, b = (_slot(found.get(variants[slot]), weight) for slot, weight in zip(SLOTS, weights, strict=True))
    return Slots(a, b)


def _slot(summary: _Json | None, weight: int) -> Slot:
    if summary is None:
        return Slot()
    if "CurrentInstanceCount" not in summary:
        raise TargetError(f"the variant '{summary['VariantName']}' has no instances of its own: it is serverless")
    images = summary.get("DeployedImages", [])
    if len(images) != 1:
        raise TargetError(f"expected the variant '{summary['VariantName']}' to run one image, got {len(images)}")
    count = max(summary["CurrentInstanceCount"], summary.get("DesiredInstanceCount", 0))
    return Slot(digest_of_image(images[0]["SpecifiedImage"]), weight, count)


def variant_of(config: _Json, name: str | None) -> _Json:
    """Return a configuration's variant; without a name the only one.

    Raises:
        TargetError: there is none, or more than one where there should be one.
    """
    found: list[_Json] = [one for one in config["ProductionVariants"] if name in (None, one["VariantName"])]
    if len(found) != 1:
        which = f"a variant '{name}'" if name else "one variant"
        raise TargetError(f"expected {which} in '{config['EndpointConfigName']}', got {len(found)}")
    return found[0]


def next_model(model: _Json, *, prefix: str, repository: str, digest: str) -> dict[str, Any]:
    """Return the request for a model that differs only in its image.

    Raises:
        TargetError: it has more than one container.
    """
    request = {name: model[name] for name in _MODEL if model.get(name)}
    containers = [
        *request.pop("Containers", []),
        *([request["PrimaryContainer"]] if "PrimaryContainer" in request else []),
    ]
    if len(containers) != 1:
        raise TargetError(f"expected the model '{model['ModelName']}' to have one container, got {len(containers)}")
    request["PrimaryContainer"] = {**containers[0], "Image": f"{repository}@{digest}"}
    return {"ModelName": _name(prefix, [digest, request]), **request}


def next_variant(variant: _Json, *, name: str, model: str, count: int) -> dict[str, Any]:
    """Return a variant that differs in its name, its model and how many instances it has."""
    return {**variant, "VariantName": name, "ModelName": model, "InitialInstanceCount": count}


def next_config(
    config: _Json, variants: Mapping[SlotName, _Json], slots: Slots, *, prefix: str, first: SlotName | None = None
) -> dict[str, Any]:
    """Return the request for a configuration of these variants, each as large and with the weight that it has now.

    Args:
        config: what the rest is copied from.
        variants: the slots' variants.
        slots: what runs.
        prefix: what its name begins with.
        first: the slot that gets all traffic because nothing else runs.
    """
    made = []
    for slot, variant in variants.items():
        weight = PARTS if slot == first else slots.at(slot).weight
        count = max(slots.at(slot).count, variant.get("InitialInstanceCount", 1))
        made.append({**variant, "InitialVariantWeight": float(weight), "InitialInstanceCount": count})
    request = {name: config[name] for name in _CONFIG if config.get(name)}
    request["ProductionVariants"] = made
    return {"EndpointConfigName": _name(prefix, [request]), **request}


def weights_and_capacities(shift: Shift, variants: Mapping[SlotName, str], slots: Slots) -> list[dict[str, Any]]:
    """Return the weights of the variants that are there."""
    return [
        {"VariantName": variants[slot], "DesiredWeight": float(shift.weight(slot))}
        for slot in SLOTS
        if slots.at(slot).count
    ]


def is_shifted(slots: Slots, shift: Shift) -> bool:
    """Whether the traffic is shared as it should be."""
    return (slots.a.weight, slots.b.weight) == (shift.a, shift.b)


def health_of(endpoint: _Json | None, variant: str) -> Health:
    """Return whether a variant has all its instances; SageMaker counts those whose container answers /ping."""
    status = endpoint["EndpointStatus"] if endpoint else "not there"
    found: Sequence[_Json] = endpoint.get("ProductionVariants", []) if endpoint else ()
    for one in found:
        if one["VariantName"] != variant:
            continue
        ready = one.get("CurrentInstanceCount", 0)
        wanted = max(1, one.get("DesiredInstanceCount", ready))
        if status in _SERVING and ready >= wanted:
            return Health(is_healthy=True, num_ready=ready, num_wanted=wanted, reason="")
        why = f"the endpoint is {status}, with {ready} of {wanted} instances of '{variant}'"
        return Health(is_healthy=False, num_ready=ready, num_wanted=wanted, reason=why)
    return Health(is_healthy=False, num_ready=0, num_wanted=1, reason=f"the endpoint is {status}, without '{variant}'")


def _name(prefix: str, content: object) -> str:
    digest = hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:16]
    return f"{prefix[: _MAX_NAME - 17].rstrip('-')}-{digest}"
