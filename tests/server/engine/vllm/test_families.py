"""Every family in every form: the engine says what transformers and peft say on the same folder (cases T8, M1)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.compress.calibration import CalibrationText
from graft.training.compress.quantize import MADE, Quantization
from graft.training.model.loading import load_base
from graft.training.rootstock.corpus.mixture import calibration_documents
from tests.cases.harness.bases import make_base
from tests.server.engine.making import write_adapter

WITH_ADAPTERS = ("llama", "mistral", "qwen3", "olmo2", "pythia", "smollm")
ALONE = ("gpt2", "mixtral")
IDS = list(range(262, 310))
MAX_MEAN_DIFFERENCE = 0.03
CELLS = [(name, form) for name in WITH_ADAPTERS for form in (*MADE, ServingForm.BF16)]
CELLS += [(name, ServingForm.BF16) for name in ALONE]


@dataclass(frozen=True, kw_only=True)
class Engines:
    """The process in which engines run one after the other."""

    process: subprocess.Popen[str]

    def ask(self, base: Path, form: ServingForm, adapter: Path | None) -> list[torch.Tensor]:
        """Log-probabilities of the base, and through the adapter."""
        request = {"base": str(base), "form": form, "adapter": adapter and str(adapter), "ids": IDS}
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the engine did not start"
        return [torch.tensor(one) for one in json.loads(answer)]


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    command = [sys.executable, "-m", "tests.server.engine.families"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield Engines(process=process)
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), CELLS, ids=[f"{name}-{form}" for name, form in CELLS])
def test_the_engine_says_what_transformers_and_peft_say(
    name: str, form: ServingForm, engines: Engines, folder: Path
) -> None:
    plain = folder / name
    base = Base.from_folder(plain if plain.exists() else make_base(name, plain))
    made = base if form is ServingForm.BF16 else _quantized(base, form, folder / f"{name}-{form}")
    adapter = None
    if name in WITH_ADAPTERS:
        layers = {module: shape for module, shape in base.modules.items() if ".layers." in module}
        adapter = write_adapter(folder / f"{name}-{form}-adapter", layers, rank=8, seed=1)
    found = engines.ask(made.path, form, adapter)
    model = load_base(made.path, form)
    expected = [_log_probabilities(model)]
    if adapter is not None:
        expected.append(_log_probabilities(PeftModel.from_pretrained(model, adapter).eval()))
        assert float((expected[0] - expected[1]).abs().mean()) > 5 * MAX_MEAN_DIFFERENCE
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs().mean()) <= MAX_MEAN_DIFFERENCE


def _quantized(base: Base, form: ServingForm, output: Path) -> Base:
    text = CalibrationText.of(calibration_documents(40)) if form is ServingForm.INT4 else None
    return Quantization(base=base, form=form, output=output, text=text, num_tokens=1024).execute()


def _log_probabilities(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.tensor([IDS])
    with torch.inference_mode():
        logits: torch.Tensor = model(ids).logits
    return logits.float().log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
