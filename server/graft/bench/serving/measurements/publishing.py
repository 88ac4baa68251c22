"""From a policy's step to the first token of its new version, beside R7 and beside the way through a folder."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from graft.adapters.folder import reference
from graft.adapters.folder.record import TRAINED_FILE
from graft.bench.serving.adapters import make_adapter, size_mb
from graft.bench.serving.figures.figures import median_of
from graft.bench.serving.measurements.receipts import add_receipts
from graft.bench.serving.measurements.workbench import Window, Workbench, say
from graft.bench.serving.peers.contenders import token_ids
from graft.bench.serving.peers.graft_server import GraftServer
from graft.client import Client
from graft.client.upload import InMemory

_ALIAS = "policy"
# Of all weights from version to version: a receipt's tolerance does not see it, and no byte of the weights stays.
_STEP = 1e-4


class Policy:
    """The weights of an adapter in memory, as a trainer holds them, that change with every step."""

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file

        self._tensors = load_file(folder / "adapter_model.safetensors")
        self._config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        self._others = {name: (folder / name).read_bytes() for name in (TRAINED_FILE, reference.FILE_NAME)}

    def step(self) -> None:
        """Take one: what is published next is another version."""
        for tensor in self._tensors.values():
            tensor.mul_(1 + _STEP)

    def files(self) -> Mapping[str, bytes]:
        """The version, as the trainer makes it of its weights."""
        from graft.training.adapt.methods.through_peft import as_files

        return {**as_files(self._tensors, self._config), **self._others}


async def step_to_first_token(bench: Workbench, server: GraftServer) -> None:
    """The weights after a step → the first token of the version that they are ÷ R7; and ÷ the way through a folder.

    Every check is included on both sides, and an alias is moved on the policy's.
    """
    folder = make_adapter(bench.base, bench.folder / "policy", seed=2000)
    say(f"step: reference log-probabilities for an adapter of {size_mb(folder):.1f} MB")
    await add_receipts(bench.base, bench.form, [folder])
    policy, prompt = Policy(folder), token_ids(64, bench.base.vocab_size, seed="step")
    with Client(server.address, timeout=600.0) as client:

        async def published(name: str, source: Callable[[], InMemory | Path]) -> float:
            policy.step()
            begin = time.monotonic()
            await asyncio.to_thread(lambda: client.push_adapter(source(), name=name, alias=_ALIAS))
            answer = await server.ask(f"{name}:{_ALIAS}", prompt, 1)
            return answer.begin + answer.first_token_seconds - begin

        async def from_memory(_: int) -> float:
            return await published("policy", policy.files)

        async def through_folder(_: int) -> float:
            return await published("foldered", lambda: _write(bench.folder / "policy-version", policy.files()))

        pairs = await bench.compare("step_over_R7", from_memory, _registration(bench, server, policy, prompt))
        bench.figures.add("step_ms", median_of([pair.first * 1000 for pair in pairs], "ms"))
        await bench.compare("step_over_folder", from_memory, through_folder)


def _registration(bench: Workbench, server: GraftServer, policy: Policy, prompt: list[int]) -> Window:
    """R7, of versions of the same adapter."""

    async def seconds(_: int) -> float:
        policy.step()
        folder = _write(bench.folder / "policy-registered", policy.files())
        version, last_byte = await server.upload("registered-policy", folder)
        answer = await server.ask(f"registered-policy@{version}", prompt, 1)
        return answer.begin + answer.first_token_seconds - last_byte

    return seconds


def _write(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
