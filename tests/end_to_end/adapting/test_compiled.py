"""What `graft compile` makes is served: greedy answers are those that peft's model of the original gives."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.cli.main import main
from graft.client import Client
from graft.training.adapt.compiler.held_base import load_held
from graft.training.adapt.compiler.initial import Initial
from graft.training.adapt.compiler.loaded import Loaded
from graft.training.adapt.compiler.original import Original
from graft.training.model.loading import CPU
from tests.running import BASE, Server, start_server, stop_server
from tests.training.adapt.compiler.making import EXACT, LESSENING, MERGED, trained

STRENGTHS = {
    "lora": 4, "rslora": 3, "patterns": 4, "adalora": 8, "loha": 8, "lokr": 6, "lokr, both parts": 8, "vera": 20,
    "vblora": 8, "mica": 8, "pissa": 4, "olora": 2, "dora": 4, "ia3": 8, "oft": 6, "boft": 6, "tokens": 20,
}  # fmt: skip
"""So that each says something of its own."""
WORDS = ["fox", "lamp", "river", "stone", "bird", "clock", "green", "seven", "door", "winter"]
PROMPTS = [f"{first} and {second}" for first in WORDS for second in WORDS[:5]]
NUM_TOKENS = 16
ROUNDING_NATS = 0.3
"""How far a token that the engine chose may stand below peft's first: in bfloat16 and NF4 they round otherwise."""


@torch.no_grad()
def below_the_first(model: nn.Module, ids: Sequence[int], served: Sequence[int]) -> Tensor:
    """How many nats each served token stands below the model's first choice, behind what was served before it."""
    logits_LV = model(input_ids=torch.tensor([[*ids, *served[:-1]]])).logits[0, len(ids) - 1 :]
    logprobs_LV = logits_LV.float().log_softmax(-1)
    found: Tensor = logprobs_LV.max(-1).values - logprobs_LV.gather(1, torch.tensor([[one] for one in served]))[:, 0]
    return found


def said(client: Client, name: str, prompts: Sequence[str]) -> list[tuple[int, ...]]:
    """Greedy, several at once."""

    def ask(prompt: str) -> tuple[int, ...]:
        return client.generate(prompt, model=name, max_tokens=NUM_TOKENS, ignore_eos=True).choices[0].token_ids

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, prompts))


@pytest.fixture(scope="module")
def of_base(client: Client) -> list[tuple[int, ...]]:
    return said(client, "", PROMPTS)


def assert_peft_says_so(
    model: nn.Module, client: Client, name: str, prompts: Sequence[str], of_base: Sequence[tuple[int, ...]]
) -> None:
    """Token by token, so that one that is a matter of rounding spoils none after it."""
    found = said(client, name, prompts)
    below = [
        below_the_first(model, client.tokenize(prompt).token_ids, ids)
        for prompt, ids in zip(prompts, found, strict=True)
    ]
    num_whole = sum(not bool(one.any()) for one in below)
    num_first = sum(int((one == 0).sum()) for one in below)
    worst = max(float(one.max()) for one in below)
    print(
        f"{name or 'merged'}: {num_whole} of {len(prompts)} answers are the reference's token by token, {num_first} of "
        f"{NUM_TOKENS * len(prompts)} tokens its first choice behind the same, the worst {worst:.2g} nats below it"
    )
    assert worst <= ROUNDING_NATS
    assert num_first >= 0.95 * NUM_TOKENS * len(prompts)
    num_of_the_base = sum(ids == other for ids, other in zip(found, of_base, strict=False))
    assert num_of_the_base <= 0.5 * len(prompts), "what says nothing of its own shows nothing"


def by_peft(base: Base, folder: Path, form: ServingForm) -> nn.Module:
    """The original as peft computes it on the very numbers that the form stands for."""
    original = Original.read(folder, base, form)
    return Loaded.of(load_held(base, form, device=CPU), original, Initial.of(original.config, None, None)).model


def compiled(base: Base, config: Any, folder: Path, name: str, *flags: str) -> tuple[Path, Path]:
    original = trained(base.path, config, folder / "original", strength=STRENGTHS[name])
    made = folder / "compiled"
    assert main(["compile", str(original), "--base", BASE, "--output", str(made), *flags]) == 0
    return original, made


@pytest.mark.parametrize("name", ["adalora", "loha"])
def test_an_exact_adapter_is_served(
    name: str, server: Server, client: Client, base: Base, of_base: list[tuple[int, ...]], tmp_path: Path
) -> None:
    """Pushed by the command, checked against its reference before its alias moves."""
    push = ["--push", server.grpc, "--name", f"compiled-{name}", "--alias", "stable"]
    original, _ = compiled(base, EXACT[name](), tmp_path, name, *push)
    version = client.get_version(f"compiled-{name}", 1).version
    assert len(version.lineage.parents) == 1
    assert_peft_says_so(by_peft(base, original, ServingForm.NF4), client, f"compiled-{name}", PROMPTS[:6], of_base)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in (*EXACT, *LESSENING) if name in STRENGTHS])
def test_every_exact_route_says_what_peft_says(
    name: str, server: Server, client: Client, base: Base, of_base: list[tuple[int, ...]], tmp_path: Path
) -> None:
    called = "".join(letter for letter in f"exact-{name}" if letter.isalnum() or letter == "-")
    push = ["--push", server.grpc, "--name", called, "--alias", "stable"]
    original, _ = compiled(base, (EXACT | LESSENING)[name](), tmp_path, name, *push)
    assert_peft_says_so(by_peft(base, original, ServingForm.NF4), client, called, PROMPTS, of_base)
    client.delete_adapter(called, force=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dora", "ia3", "oft", "boft", "tokens"])
def test_a_merged_base_says_what_it_is_made_to_say(
    name: str, base: Base, of_base: list[tuple[int, ...]], tmp_path: Path
) -> None:
    """Served as it is written, not quantized. Embeddings that alone were trained are large, so that bfloat16's rounding
    turns answers (0.87 nats: LOG): those are served in float32.
    """
    form = ServingForm.FP32 if name == "tokens" else ServingForm.BF16
    original = trained(base.path, MERGED[name](), tmp_path / "original", strength=STRENGTHS[name])
    made = tmp_path / "merged"
    assert main(["compile", str(original), "--base", BASE, "--output", str(made), "--no-load-in-4bit"]) == 0
    running = start_server(tmp_path, "--base", str(made), "--quantization", form.value)
    with Client(running.grpc) as client:
        assert_peft_says_so(by_peft(base, original, form), client, "", PROMPTS, of_base)
    assert stop_server(running) == 0


def test_a_sum_is_served(server: Server, client: Client, base: Base, two_versions: str, tmp_path: Path) -> None:
    """By the command; ranks add up."""
    command = ["adapters", "merge", f"{two_versions}@1:0.6", f"{two_versions}@2:0.4", "--name", "summed"]
    assert main([*command, "--server", server.grpc]) == 0
    version = client.get_version("summed", 1).version
    assert version.rank == 8 + 16 and [one.weight for one in version.lineage.parents] == [0.6, 0.4]
    answers = {
        name: client.generate("12 + 30 = ", model=name, max_tokens=12, ignore_eos=True).choices[0].token_ids
        for name in ("summed@1", f"{two_versions}@1", f"{two_versions}@2")
    }
    assert len({tuple(one) for one in answers.values()}) == 3
