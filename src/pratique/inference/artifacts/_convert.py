"""GGUF → safetensors in bf16 with the tokenizer and its chat template. Runs in the sandboxed process only.

It takes a gigabyte and seconds of imports that the importing process should not keep, and what reads a foreign file may
crash.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pratique.inference.artifacts._protocol import Said, Task, say
from pratique.inference.engines._process import faster_imports
from pratique.inference.errors import ArtifactError

__all__ = ["convert_gguf"]


def convert_gguf(task: Task) -> None:
    """Convert the task's one source, a GGUF file that is alone in its folder.

    Raises:
        ArtifactError: it carries no chat template. What transformers raises for a malformed file ends the process.
    """
    source, out = Path(task.sources[0]), Path(task.out)
    say(Said(phase="importing transformers", progress=0.02))
    faster_imports(_import)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    say(Said(phase="reading the tokenizer", progress=0.2))
    tokenizer: Any = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    if not tokenizer.chat_template:
        raise ArtifactError(f"{source.name} carries no chat template; a chat model is needed.")
    say(Said(phase="reading and expanding the weights", progress=0.35))
    packed: Any = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype=torch.bfloat16)
    say(Said(phase="writing safetensors", progress=0.8))
    # Saved with its GGUF entry the configuration would send every reader back to the packed file.
    config = packed.config
    del config.quantization_config
    plain: Any = type(packed)(config).to(torch.bfloat16)
    plain.load_state_dict(packed.state_dict())
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)
    if task.wants_licence:
        say(Said(licence=_licence(source)))


def _licence(source: Path) -> str:
    import gguf

    field: Any = gguf.GGUFReader(source).fields.get("general.license")
    return str(field.contents()) if field is not None else ""


def _import() -> None:
    import transformers.models.auto.modeling_auto  # noqa: F401 - for what it loads
