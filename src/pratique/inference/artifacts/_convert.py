"""GGUF → safetensors in bf16 with the tokenizer and its chat template, in a process of its own.

It takes a gigabyte and seconds of imports that the importing process should not keep, and what reads a foreign file may
crash. Progress goes to standard output, one JSON object a line; the end of the parent ends it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from pratique.inference.engines._process import die_with_parent, faster_imports

__all__ = ["main"]


def main(source: Path, out: Path) -> None:
    """Convert the file `source` into the folder `out`."""
    _say("importing transformers", 0.02)
    os.environ["HF_HUB_OFFLINE"] = "1"
    faster_imports(_import)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    _say("reading the tokenizer", 0.2)
    tokenizer: Any = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    if not tokenizer.chat_template:
        raise SystemExit(f"{source} carries no chat template; a chat model is needed.")
    _say("reading and expanding the weights", 0.35)
    packed: Any = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype=torch.bfloat16)
    _say("writing safetensors", 0.8)
    # Saved with its GGUF entry the configuration would send every reader back to the packed file.
    config = packed.config
    del config.quantization_config
    plain: Any = LlamaForCausalLM(config).to(torch.bfloat16)
    plain.load_state_dict(packed.state_dict())
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _import() -> None:
    import transformers.models.auto.modeling_auto  # noqa: F401 - for what it loads


def _say(phase: str, progress: float) -> None:
    sys.stdout.write(json.dumps({"phase": phase, "progress": progress}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    main(Path(sys.argv[2]), Path(sys.argv[3]))
