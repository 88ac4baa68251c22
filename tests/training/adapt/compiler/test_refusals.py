"""What cannot be compiled is said in one line, and nothing is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from graft.adapters.adapter import UNKNOWN_LINEAGE
from graft.adapters.base.base import Base
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.cli.main import main
from graft.training.adapt.compiler.compilation import Compilation
from graft.training.adapt.method import Route
from graft.training.errors import ConfigurationError, Diverged
from tests.training.adapt.compiler.making import EXACT, MERGED, TARGETS, trained

Change = Callable[[Path], object]


def configured(**values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def write(folder: Path) -> None:
        found = load_file(folder / "adapter_model.safetensors")
        change(found)
        save_file(found, folder / "adapter_model.safetensors")

    return write


def with_nan(found: dict[str, torch.Tensor]) -> None:
    for one in found.values():
        one.view(-1)[0] = float("nan")


def in_8_bits(found: dict[str, torch.Tensor]) -> None:
    for name, one in found.items():
        found[name] = one.to(torch.float8_e4m3fn)


def renamed(found: dict[str, torch.Tensor]) -> None:
    name = next(iter(found))
    found[name.replace("layers.0", "layers.9")] = found.pop(name)


def other(kind: str) -> Change:
    return configured(peft_type=kind)


def piped(name: str) -> Change:
    """Nobody ever writes into it."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


CASES: dict[str, tuple[Change, list[str]]] = {
    "NaN": (tensors(with_nan), ["3 more tensors hold numbers that are NaN or infinite", "take an earlier checkpoint"]),
    "8 bits": (tensors(in_8_bits), ["is float8_e4m3fn", "float32, float16 or bfloat16"]),
    "too large": (tensors(lambda found: [one.fill_(1e38) for one in found.values()]), ["says next is no number"]),
    "unknown method": (other("WONDER"), ["peft_type 'WONDER' is no method that peft"]),
    "prompts": (other("PROMPT_TUNING"), ["PROMPT_TUNING trains a prompt and no weights", "pushed as it is"]),
    "bottleneck": (other("BOTTLENECK"), ["BOTTLENECK has no linear form"]),
    "mixture": (other("XLORA"), ["XLORA has no linear form", "depends on the tokens"]),
    "activated": (configured(alora_invocation_tokens=[5]), ["an activated LoRA", "from some tokens on"]),
    "a head's task": (configured(task_type="SEQ_CLS"), ["task_type is 'SEQ_CLS'", "CAUSAL_LM"]),
    "other layers": (configured(target_modules=["no_such"]), ["does not fit the base"]),
    "other rank": (configured(r=5), ["does not fit the base", "size mismatch"]),
    "a tensor without place": (tensors(renamed), ["have no place there, such as", "layers.9"]),
    "a tensor too few": (tensors(lambda found: found.pop(next(iter(found)))), ["1 tensors are missing, such as"]),
    "no configuration": (lambda folder: (folder / "adapter_config.json").unlink(), ["adapter_config.json"]),
    "a pattern without end": (
        configured(target_modules="(.*.*)*X"),
        ["target_modules", "2 s of computing"],
    ),
    "a pipe for tensors": (piped("adapter_model.safetensors"), ["adapter_model.safetensors", "is no regular file"]),
    "a pipe for settings": (piped("adapter_config.json"), ["adapter_config.json is no regular file"]),
    "no tensors": (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x"), ["cannot be read"]),
    "LoftQ": (
        configured(init_lora_weights="loftq", loftq_config={"loftq_bits": 4}),
        ["trained on a base of its own", "--initial FOLDER"],
    ),
    "zero": (tensors(lambda found: [one.zero_() for one in found.values()]), ["all its updates are zero"]),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_said_and_nothing_is_written(case: str, tiny_base: Path, tmp_path: Path) -> None:
    change, words = CASES[case]
    folder = trained(tiny_base, EXACT["lora"](), tmp_path / "a")
    change(folder)
    compilation = Compilation(
        adapter=folder, base=Base.from_folder(tiny_base), form=ServingForm.BF16, output=tmp_path / "out"
    )
    with pytest.raises((ConfigurationError, Diverged)) as error:
        compilation.execute()
    told = str(error.value)
    assert "\n" not in told and all(word in told for word in words), told
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_several_faults_are_said_at_once(tiny_base: Path, tmp_path: Path) -> None:
    base = Base.from_folder(tiny_base)
    folder = trained(tiny_base, EXACT["lora"](), tmp_path / "a")
    tensors(with_nan)(folder)
    configured(task_type="SEQ_CLS")(folder)
    mother = replace(base.identity, weights_digest="sha256:" + "9" * 64, name="mother")
    TrainedRecord(base=mother, form=ServingForm.NF4, lineage=UNKNOWN_LINEAGE).write(folder)
    with pytest.raises(ConfigurationError) as error:
        Compilation(adapter=folder, base=base, form=ServingForm.BF16, output=tmp_path / "out").execute()
    other_base = "it was trained on mother, and seedling differs in weights: give that base"
    for words in ("NaN", "SEQ_CLS", other_base, "trained on the base as nf4, not as bf16"):
        assert words in str(error.value)


def test_a_rank_that_no_engine_has_becomes_a_base(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here with a limit of 8 in place of 512, which no layer of a tiny base could be above."""
    monkeypatch.setattr("graft.training.adapt.compiler.lora_route.MAX_RANK", 8)
    folder = trained(tiny_base, EXACT["loha"](), tmp_path / "a")
    compilation = Compilation(
        adapter=folder, base=Base.from_folder(tiny_base), form=ServingForm.BF16, output=tmp_path / "out"
    )
    report = compilation.execute()
    assert report.route is Route.MERGE
    assert "needs rank 16, and the largest of the engine is 8" in report.notes[0]


def test_a_trained_bias_goes_into_a_base(tiny_base: Path, tmp_path: Path) -> None:
    config = peft.LoraConfig(r=4, target_modules=TARGETS, lora_bias=True)
    folder = trained(tiny_base, config, tmp_path / "a")
    compilation = Compilation(
        adapter=folder, base=Base.from_folder(tiny_base), form=ServingForm.BF16, output=tmp_path / "out"
    )
    with pytest.raises(ConfigurationError, match="bias"):
        compilation.execute()  # a Llama's layers have none that it could be added to


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--svd", "600"], "--svd is 600; it must lie from 1 to 512"),
        (["--max-error", "nan"], "--max-error is nan"),
        (["--merge", "--svd", "8"], "take one of them"),
        (["--alias", "stable"], "add --push HOST:PORT"),
        (["--load-in-4bit", "--load-in-8bit"], "exclude each other"),
        (["--initial", "nowhere"], "--initial nowhere holds no adapter_model.safetensors"),
    ],
)
def test_flags_that_cannot_be(
    flags: list[str], words: str, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tiny_base, EXACT["lora"](), tmp_path / "a")
    code = main(["compile", str(folder), "--base", str(tiny_base), "--output", str(tmp_path / "out"), *flags])
    told = capsys.readouterr().err
    assert code == 2 and words in told and not (tmp_path / "out").exists()


def test_the_command_says_what_it_made(tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(tiny_base, MERGED["dora"](), tmp_path / "a")
    made, figures = tmp_path / "out", tmp_path / "figures.json"
    command = ["compile", str(folder), "--base", str(tiny_base), "--output", str(made), "--no-load-in-4bit"]
    assert main([*command, "--svd", "4", "--json", str(figures)]) == 0
    said = capsys.readouterr().out
    assert "DORA on seedling as bf16, svd, to be served with --max-rank 8 or more" in said
    assert f"an adapter in {made}: graft adapters push {made} --name NAME --alias stable" in said
    report = json.loads(figures.read_text())
    assert report == json.loads((made / "compiled.json").read_text())
    assert (report["route"], report["rank"], report["form"], report["method"]) == ("svd", 4, "bf16", "DORA")
    assert 0 < report["relative_error"] < 1 and len(report["layers"]) == 2
    base = tmp_path / "base"
    assert main([*command[:5], str(base), *command[6:], "--merge"]) == 0
    assert f"a base in {base}: graft serve --base {base} --quantization bf16" in capsys.readouterr().out
    assert main([*command, "--svd", "4"]) == 2
    assert "exists: remove it" in capsys.readouterr().err
