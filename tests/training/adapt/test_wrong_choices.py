"""What a method cannot do is said in one line, before a weight is loaded and before anything is written."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from graft.adapters.base.base import Base
from graft.cli.main import main
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.methods.catalog import check_beside_rows, method_of, warn_of_unused
from graft.training.adapt.settings import AdaptSettings
from graft.training.adapt.targets import Targets
from graft.training.errors import ConfigurationError
from graft.training.finetune.settings import FinetuneSettings
from graft.training.parallel.mesh import Mesh

WRONG: list[tuple[list[str], str]] = [
    (
        ["--target-modules", "q_proj,k_prj,lm_head,norm"],
        "'k_prj' is no layer, did you mean 'k_proj'?; 'lm_head' is the",
    ),
    (["--target-modules", r".*\.(q|w)_prj"], "matches the whole path of no layer; one of seedling is model.layers.0"),
    (["--target-modules", "(q_proj"], "no regular expression"),
    (["--target-modules", ".*(norm|q_proj)"], "is no linear layer that a server takes adapters on"),
    (["--layers-to-transform", "0,7"], "names block 7; seedling has blocks 0 to 0"),
    (["--target-modules", ".*q_proj", "--layers-to-transform", "0"], "a regular expression chooses by itself"),
    (["--rank-pattern", "q_prj=4"], "'q_prj', which no layer that is adapted has"),
    (["--rank-pattern", "q_proj=4000"], "the rank 4000 for 'q_proj'; it must be from 1 to 512"),
    (["--rank-pattern", "q_proj=a"], "must be of type"),
    (["--method", "dorra"], "'method' has the value 'dorra'"),
    (["--method", "qlora"], "QLoRA is lora with the base in 4 bits, as by default"),
    (["--method", "pissa", "--r", "300"], "lower r, or rank_pattern, to 256"),
    (["--method", "adalora", "--init-r", "4", "--target-r", "4"], "lower target_r, or raise init_r"),
    (["--method", "adalora", "--tinit", "5", "--max-steps", "5"], "the training has 5 steps"),
    (["--method", "ia3", "--feedforward-modules", "up_proj"], "names up_proj, which target_modules does not"),
    (["--method", "oft", "--oft-block-size", "48"], "48, which does not divide the 128 inputs of"),
    (["--method", "trainable_tokens"], "trainable_tokens learns nothing"),
    (["--method", "trainable_tokens", "--trainable-tokens", "zebra,9999"], "'zebra' is 5 tokens; 9999 is no token"),
    (["--method", "prompt_tuning", "--num-virtual-tokens", "9999"], "9999, and seedling has"),
    (["--method", "prompt_tuning", "--packing"], "each needs a line of its own: leave packing out"),
    (["--method", "prefix_tuning", "--gradient-checkpointing"], "goes without gradient_checkpointing"),
    (["--method", "bitfit"], "has no biases, which are all that bitfit trains: take ia3"),
    (["--method", "full", "--load-in-4bit"], "which as nf4 are codes that cannot move"),
    (["--method", "full", "--trainable-layers", "3"], "seedling has 1 blocks"),
    (["--method", "full", "--trainable-parameters", "lm_heed.*"], "matches the whole name of no parameter"),
    (["--method", "full", "--trainable-layers", "1", "--trainable-parameters", ".*"], "give one"),
    (["--optim", "paged_adamw_8bit"], "this training computes on the cpu: take adamw_8bit or adamw"),
    (
        ["--method", "dora", "--push", "localhost:1"],
        "new base, to be served with --quantization bf16): leave --push out",
    ),
    (["--method", "houlsby", "--push", "localhost:1"], "(cannot be served: what it adds is no matrix"),
]


WITHOUT_END: list[tuple[list[str], str]] = [
    (["--target-modules", "(.*.*)*X"], "which took longer than 2 s of computing over"),
    (["--rank-pattern", "(.*)*X=4"], "'(.*)*X', which took longer than 2 s of computing over"),
    (["--method", "full", "--trainable-parameters", "(.*.*)*X"], "which took longer than 2 s of computing over"),
]
_SLOW = [pytest.param(*one, marks=pytest.mark.slow, id=one[0][-1]) for one in WITHOUT_END]


@pytest.mark.parametrize(("flags", "told"), [*(pytest.param(*one, id=" ".join(one[0])) for one in WRONG), *_SLOW])
def test_a_line_says_what_is_wrong(
    flags: list[str], told: str, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tmp_path / "rows.jsonl", tmp_path / "out"
    data.write_text(json.dumps({"prompt": "ant -> ", "completion": "ANT"}) + "\n")
    typed = ["--base", str(tiny_base), "--data", str(data), "--name", "n", "--output", str(output), *flags]
    assert main(["finetune", *typed]) == 2
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1
    assert not output.exists()


def of(base: Path, **settings: Any) -> tuple[Adaptable, AdaptSettings]:
    return Adaptable.of(Base.from_folder(base)), AdaptSettings.from_mapping(settings)


def test_layers_are_chosen_as_peft_chooses_them(tiny_base: Path) -> None:
    q, k = (f"model.layers.0.self_attn.{name}_proj" for name in "qk")
    for wanted, paths in {"q_proj,k_proj": (q, k), r".*\.(q|k)_proj": (q, k), q: (q,), "all-linear": None}.items():
        base, settings = of(tiny_base, target_modules=wanted)
        found = Targets.of(base, settings)
        assert set(found.paths) == set(base.layers if paths is None else paths)
    base, settings = of(tiny_base, target_modules=r".*\.(q|k)_proj")
    assert Targets.of(base, settings).names == ("k_proj", "q_proj")  # as short as they can be
    base, settings = of(tiny_base, rank_pattern={"q_proj": 2, r"layers\.0\..*": 3}, r=4)
    found = Targets.of(base, settings)
    assert [found.rank_of(path, settings.r) for path in (q, k)] == [2, 3]


@pytest.mark.parametrize(
    ("given", "expected"), [("0,2-4", (0, 2, 3, 4)), ([1, "3"], (1, 3)), ("4-2", None), ("x", None), ([], None)]
)
def test_numbers_and_ranges_of_blocks(given: Any, expected: tuple[int, ...] | None) -> None:
    if expected is not None:
        assert AdaptSettings.from_mapping({"layers_to_transform": given}).layers_to_transform == expected
        return
    with pytest.raises(ConfigurationError, match="must be of type"):
        AdaptSettings.from_mapping({"layers_to_transform": given})


def test_settings_of_other_methods_are_told_to_be_without_effect(
    tiny_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = FinetuneSettings.from_mapping(
        {"method": "ia3", "r": 4, "num_virtual_tokens": 3, "target_modules": "q_proj"}
    )
    with caplog.at_level(logging.WARNING):
        warn_of_unused(method_of(settings), settings)
    assert "method ia3 does not look at r, num_virtual_tokens: without effect" in caplog.text


@pytest.mark.parametrize(
    ("name", "zero_stage", "told"),
    [
        ("dora", 3, "take dp_replicate, or zero_stage 1"),
        ("dora", 1, None),
        ("adalora", 3, "whole in each process: take dp_replicate."),
        ("adalora", 1, "it needs every gradient in each process: take dp_replicate"),
        ("lora", 3, None),
    ],
)
def test_what_needs_all_of_a_base_or_of_the_gradients_is_not_split(
    name: str, zero_stage: int, told: str | None
) -> None:
    method = method_of(AdaptSettings.from_mapping({"method": name}))
    mesh = Mesh(dp_shard=2, zero_stage=zero_stage)
    with contextlib.nullcontext() if told is None else pytest.raises(ConfigurationError, match=told):
        check_beside_rows(method, mesh, packing=True)
