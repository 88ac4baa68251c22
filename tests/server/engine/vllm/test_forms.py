"""Every form that `graft quantize` makes, on the real engine with adapters on top, against transformers and peft.

The reference computes in bfloat16 on the same quantized weights, so both sides round: even unquantized, they differ by
0.01 nats per token on average. The house allows 0.05 between training and serving.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineAdapter, Sampling
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.launch import start_engine
from graft.training.compress.calibration import CalibrationText
from graft.training.compress.quantize import Quantization
from graft.training.model.loading import load_base
from graft.training.rootstock.corpus.mixture import ROOTSTOCK, calibration_documents
from tests.cases.harness.bases import save_by_transformers
from tests.server.engine.making import engine_settings

MADE = [ServingForm.NF4, ServingForm.LLM_INT8, ServingForm.INT8, ServingForm.INT4]
# Text that the base can predict: where it is lost, tiny differences in bfloat16 become large ones of log p.
TEXT = "\n".join(one.text for one in islice(ROOTSTOCK.documents(Random("forms")), 8))[:400]
NUM_PROMPT_TOKENS = 40
MAX_MEAN_DIFFERENCE = 0.03
# Greedy choices may differ where two tokens are so close that rounding decides.
MAX_TIE = 0.1


@contextlib.asynccontextmanager
async def serving(base: Base, form: ServingForm) -> AsyncIterator[VllmEngine]:
    engine = await start_engine(engine_settings(base, form=form))
    try:
        yield engine
    finally:
        await engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("form", MADE)
async def test_base_and_adapters_answer_as_transformers_and_peft_do(
    form: ServingForm, base: Base, adapters: tuple[EngineAdapter, ...], tmp_path: Path
) -> None:
    text = CalibrationText.of(calibration_documents()) if form is ServingForm.INT4 else None
    made = Quantization(base=base, form=form, output=tmp_path / form, text=text).execute()
    assert made.identity == base.identity
    await _compare(made, form, adapters, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, {"load_in_8bit": True}])
async def test_s6_a_base_that_transformers_saved_takes_adapters(
    options: dict[str, object], base: Base, adapters: tuple[EngineAdapter, ...], tmp_path: Path
) -> None:
    """With bitsandbytes' own defaults: float32 arithmetic, scales of one level."""
    saved = Base.from_folder(save_by_transformers(base.path, tmp_path / "saved", **options))
    assert saved.form is not None
    await _compare(saved, saved.form, adapters, tmp_path)


async def _compare(made: Base, form: ServingForm, adapters: tuple[EngineAdapter, ...], tmp_path: Path) -> None:
    async with serving(made, form) as engine:
        ids = engine.llm.get_tokenizer()(TEXT)["input_ids"]
        prompt, continuation = ids[:NUM_PROMPT_TOKENS], ids[NUM_PROMPT_TOKENS:]
        for adapter in (None, weaker(adapters[0], tmp_path / "0"), weaker(adapters[1], tmp_path / "1")):
            model = load_base(made.path, form)
            if adapter is not None:
                await engine.load(adapter)
                model = PeftModel.from_pretrained(model, adapter.path).eval()
            await _compare_scores(engine, model, prompt, continuation, adapter)
            await _compare_greedy(engine, model, prompt, adapter)


def weaker(adapter: EngineAdapter, folder: Path) -> EngineAdapter:
    """The same adapter at a fifth of its strength: clearly another model, but not one that is lost."""
    shutil.copytree(adapter.path, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": config["r"] / 5}))
    return dataclasses.replace(adapter, digest=f"{adapter.digest}-weaker", path=folder)


async def _compare_scores(
    engine: VllmEngine,
    model: torch.nn.Module,
    prompt: list[int],
    continuation: list[int],
    adapter: EngineAdapter | None,
) -> None:
    score = await engine.score(prompt, continuation, request_id=f"score-{adapter}", adapter=adapter)
    expected = _logprobs(model, [*prompt, *continuation])[len(prompt) - 1 : -1]
    chosen = [float(row[token.token_id]) for row, token in zip(expected, score.tokens, strict=True)]
    differences = [abs(token.logprob - value) for token, value in zip(score.tokens, chosen, strict=True)]
    assert sum(differences) / len(differences) <= MAX_MEAN_DIFFERENCE, differences


async def _compare_greedy(
    engine: VllmEngine, model: torch.nn.Module, prompt: list[int], adapter: EngineAdapter | None
) -> None:
    sampling = Sampling(max_tokens=16, ignore_eos=True)
    said: list[int] = []
    async for delta in engine.generate(prompt, sampling, request_id=f"greedy-{adapter}", adapter=adapter):
        said += delta.token_ids
    expected = _logprobs(model, [*prompt, *said])[len(prompt) - 1 : -1]
    for row, token in zip(expected, said, strict=True):
        assert float(row.max() - row[token]) <= MAX_TIE


@torch.no_grad()
def _logprobs(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    logprobs: torch.Tensor = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return logprobs


@pytest.mark.slow
async def test_int8_in_the_engine_holds_one_byte_per_weight(base: Base, tmp_path: Path) -> None:
    """vLLM's own `int8_per_channel_weight_only` left dense layers in bfloat16; the name of a form must not lie."""
    made = Quantization(base=base, form=ServingForm.INT8, output=tmp_path / "int8").execute()
    with safe_open(made.path / "model.safetensors", "pt") as file:
        packed = [name for name in file.keys() if name.endswith("weight_packed")]  # noqa: SIM118
    assert len(packed) == sum(name.startswith("model.layers.") for name in base.modules)
    assert made.size_bytes < 0.55 * base.size_bytes
