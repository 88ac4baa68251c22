"""Small trainings by the command line: every tensor that they end in by its digest, every loss on the way."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

SMALL = {
    "hidden-size": 32, "num-hidden-layers": 2, "num-attention-heads": 2, "vocab-size": 384, "max-length": 32,
    "per-device-train-batch-size": 4, "max-steps": 6,
}  # fmt: skip
_PRETRAININGS: dict[str, dict[str, Any]] = {
    "llama": {"validation": "held_out.txt", "eval-steps": 3, "z-loss": 0.001},
    "gpt2, prefix, dropout": {"family": "gpt2", "objective": "prefix", "dropout": 0.1},
    "bert, masked": {"family": "bert", "whole-word-masking": None},
    "electra, replaced tokens": {"family": "electra", "objective": "replaced_token"},
    "xlnet, permutation": {"family": "xlnet"},
    "mixtral": {"family": "mixtral", "num-local-experts": 2, "sliding-window": 8},
    "t5": {"family": "t5", "vocab-size": 420},
    "bart": {"family": "bart"},
    "llama, distilled": {"teacher": "base-llama", "tokenizer": "base-llama"},
    "llama, accumulated and resumed": {
        "gradient-accumulation-steps": 3, "batch-warmup-steps": 3, "ema-decay": 0.9, "save-steps": 3,
    },
    "llama, two stages": {"pp": 2, "gradient-accumulation-steps": 2},
    "llama, two shards": {"dp-shard": 2, "save-steps": 3},
}  # fmt: skip
_FINETUNINGS: dict[str, dict[str, Any]] = {
    "LoRA": {"lora-dropout": 0.1},
    "LoRA, accumulated and resumed": {"gradient-accumulation-steps": 2, "save-steps": 3, "use-rslora": None},
    "LoRA on 8 bits, unpacked": {"no-load-in-4bit": None, "load-in-8bit": None, "no-packing": None},
}
_PARALLEL = {"--pp", "--dp-shard"}
_TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
_TIMES = {"seconds", "tokens_per_second", "mfu", "memory", "time"}
_WORDS = ("cat", "tac", "melon", "stone", "water", "bird", "hen", "7", "12", "nine")


def record(only: Sequence[str] = ()) -> dict[str, Any]:
    """What each training left behind, by its name."""
    with tempfile.TemporaryDirectory(prefix="golden-") as name:
        work = Path(name)
        write_data(work)
        found = {}
        for row, options in _PRETRAININGS.items():
            if not only or any(part in row for part in only):
                found[row] = _pretrained(work, row, options)
        for row, options in _FINETUNINGS.items():
            if not only or any(part in row for part in only):
                found[row] = _finetuned(work, row, options)
        return found


def _pretrained(work: Path, row: str, options: Mapping[str, Any]) -> dict[str, Any]:
    name = _slug(row)
    arguments = flags({**SMALL, "text": "text.txt", "output": f"base-{name}", "work": f"work-{name}", **options})
    _trained(work, ["pretrain", *arguments], work / f"work-{name}", again="save-steps" in options)
    return _left(work / f"base-{name}", work / f"work-{name}")


def _finetuned(work: Path, row: str, options: Mapping[str, Any]) -> dict[str, Any]:
    name = _slug(row)
    fixed = {"data": "rows.jsonl", "name": "tale", "output": f"run-{name}", "max-steps": 6, "r": 4}
    arguments = flags({**fixed, "per-device-train-batch-size": 4, **options})
    _trained(work, ["finetune", *arguments], work / f"run-{name}", again="save-steps" in options)
    return _left(work / f"run-{name}/adapter", work / f"run-{name}")


def _trained(work: Path, command: list[str], folder: Path, *, again: bool) -> None:
    """Run to its end; `again` as if it had been killed after the checkpoint before the last, and resumed."""
    _graft(work, *command)
    if again:
        (folder / "checkpoint-6/COMPLETE").unlink()
        _graft(work, *command, "--resume")


def _graft(work: Path, *command: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    launcher = _TORCHRUN if _PARALLEL & set(command) else [sys.executable]
    print("graft", *command, file=sys.stderr, flush=True)
    done = subprocess.run(
        [*launcher, "-m", "graft.cli.main", *command],
        cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"graft {' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")


def _left(output: Path, folder: Path) -> dict[str, Any]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {
        "tensors": {path.name: _digests(path) for path in sorted(output.glob("*.safetensors"))},
        "files": sorted(path.relative_to(output).as_posix() for path in output.rglob("*")),
        "run": sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")),
        "metrics": [{key: value for key, value in json.loads(line).items() if key not in _TIMES} for line in lines],
        "records": {path.name: _record(path) for path in sorted(output.glob("*.json"))},
    }  # fmt: skip


def _record(path: Path) -> Any:
    """Without the commit that wrote it."""
    return json.loads(path.read_text(), object_hook=lambda one: {k: v for k, v in one.items() if k != "code_version"})


def _digests(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    return {
        name: f"{tensor.dtype} {list(tensor.shape)} {hashlib.sha256(_bytes(tensor)).hexdigest()}"
        for name, tensor in tensors.items()
    }


def _bytes(tensor: Any) -> bytes:
    import torch

    return bytes(tensor.contiguous().view(torch.uint8).numpy().tobytes())


def write_data(work: Path) -> None:
    drawn = random.Random(1)
    text = "\n".join(
        " ".join(drawn.choice(_WORDS) for _ in range(drawn.randrange(4, 20))) + "." for _ in range(400)
    )  # fmt: skip
    (work / "text.txt").write_text(text + "\n")
    (work / "held_out.txt").write_text(text[:2000] + "\n")
    rows = [{"prompt": f"{word} -> ", "completion": word[::-1].upper()} for word in _WORDS]
    rows += [
        {"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": word * 2}]} for word in _WORDS
    ]
    (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def flags(options: Mapping[str, Any]) -> list[str]:
    """`None` is a flag without a value."""
    return [
        part
        for name, value in options.items()
        for part in ((f"--{name}",) if value is None else (f"--{name}", str(value)))
    ]


def _slug(row: str) -> str:
    return row.replace(",", "").replace(" ", "-").lower()
