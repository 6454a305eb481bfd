"""vLLM's CPU kernels for LoRA, made to leave requests without an adapter alone.

They mark a token without an adapter by the index -1 and then index with it: such a token gets the weights of the last
slot. In a batch with both kinds the base model's replies were garbage. The GPU's kernels skip -1. The same is proposed
upstream (vllm-project/vllm, pull request 48421, open); remove this module with the release that has it.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

__all__ = ["leave_base_requests_alone"]

_OPERATIONS: Final = "vllm.lora.ops.torch_ops.lora_ops"
_WRAPPER: Final = "vllm.lora.punica_wrapper.punica_cpu"
_EXPANDING: Final = ("bgmv_expand", "bgmv_expand_slice")
"""Each path to an output goes through one of them; `sgmv_…` calls them in its own module."""


def leave_base_requests_alone() -> None:
    """Wrap the operations in both modules that name them. Called in the engine's process."""
    operations, wrapper = importlib.import_module(_OPERATIONS), importlib.import_module(_WRAPPER)
    for name in _EXPANDING:
        masked = _masked(getattr(operations, name))
        setattr(operations, name, masked)
        setattr(wrapper, name, masked)


def _masked(expand: Any) -> Any:  # noqa: ANN401 - a function of vLLM's, which has no types
    def masked(inputs: Any, weights: Any, output: Any, indices: Any, *rest: Any, **options: Any) -> None:  # noqa: ANN401
        """Whatever weights are taken for -1: times zero they add nothing."""
        num_tokens = inputs.shape[0]
        with_adapter = (indices[:num_tokens] >= 0).to(inputs.dtype).unsqueeze(1)
        expand(inputs * with_adapter, weights, output, indices, *rest, **options)

    return masked
