"""Whether an adapter fits a base and the limits: all reasons at once (F7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graft.adapters.base.base import Base
from graft.adapters.compatibility import Limits, incompatibilities
from graft.adapters.errors import Reason
from graft.adapters.folder.manifest import read_manifest
from graft.adapters.form import ServingForm
from tests.adapters.making import LIMITS, VOCABULARY, WIDTH, make_adapter, make_base, make_tensors


def _reasons(folder: Path, base: Base, **options: Any) -> tuple[Reason, ...]:
    options = {"declared_base": None, "form": ServingForm.NF4, "serving_form": ServingForm.NF4} | options
    return incompatibilities(read_manifest(folder), base, options.pop("limits", LIMITS), **options)


def _fields(reasons: tuple[Reason, ...]) -> list[str]:
    return [reason.field.removeprefix("adapter_config.json:") for reason in reasons]


def test_a_sound_adapter_fits(base: Base, tmp_path: Path) -> None:
    assert _reasons(make_adapter(tmp_path / "a"), base, declared_base=base.identity) == ()
    rslora = make_adapter(tmp_path / "b", config={"use_rslora": True, "init_lora_weights": "gaussian"})
    assert _reasons(rslora, base) == ()


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"peft_type": None}, "peft_type"),
        ({"bias": "lora_only"}, "bias"),
        ({"use_dora": True}, "use_dora"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"init_lora_weights": "pissa_niter_16"}, "init_lora_weights"),
        ({"init_lora_weights": "olora"}, "init_lora_weights"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights"),
        ({"init_lora_weights": "corda"}, "init_lora_weights"),
        ({"init_lora_weights": "lora_ga"}, "init_lora_weights"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters"),
        ({"use_qalora": True}, "use_qalora"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_bias": True}, "lora_bias"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"megatron_config": {"a": 1}}, "megatron_config"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"option_of_a_later_peft": True}, "option_of_a_later_peft"),
    ],
)
def test_what_the_engine_would_ignore_or_get_wrong(
    base: Base, tmp_path: Path, config: dict[str, Any], field: str
) -> None:
    assert _fields(_reasons(make_adapter(tmp_path / "a", config=config), base)) == [field]


@pytest.mark.parametrize(
    ("form", "flags"),
    [(ServingForm.NF4, ""), (ServingForm.BF16, " --no-load-in-4bit"), (ServingForm.LLM_INT8, " --load-in-8bit")],
)
@pytest.mark.parametrize(
    "config",
    [
        {"peft_type": "LOHA", "r": 4, "lora_alpha": None, "alpha": 8},
        {"peft_type": "IA3", "r": None, "lora_alpha": None, "target_modules": None},
        {"use_dora": True},
        {"init_lora_weights": "pissa"},
    ],
)
def test_what_can_be_compiled_says_by_which_command(
    base: Base, tmp_path: Path, config: dict[str, Any], form: ServingForm, flags: str
) -> None:
    folder = make_adapter(tmp_path / "a", config=config)
    (reason,) = _reasons(folder, base, form=form, serving_form=form)
    assert f": graft compile FOLDER --base {base.name}{flags} --output COMPILED" in reason.remedy


def test_what_no_compiler_takes_is_not_sent_to_it(base: Base, tmp_path: Path) -> None:
    (reason,) = _reasons(make_adapter(tmp_path / "a", config={"peft_type": "BOTTLENECK"}), base)
    assert "cannot be served: a bottleneck adapter bends" in reason.problem and "graft compile" not in reason.remedy


def test_dora_is_refused_once_and_not_for_each_of_its_magnitudes(base: Base, tmp_path: Path) -> None:
    names = ("lora_magnitude_vector", "lora_magnitude_vector.weight")
    magnitudes = {
        f"base_model.model.model.layers.0.self_attn.q_proj.{name}": np.ones(WIDTH, np.float32) for name in names
    }
    folder = make_adapter(tmp_path / "a", config={"use_dora": True}, tensors={**make_tensors(), **magnitudes})
    assert _fields(_reasons(folder, base)) == ["use_dora"]


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        ({"lora_alpha": 40_000}, []),
        ({"lora_alpha": -40_001}, ["lora_alpha"]),
        ({"lora_alpha": 20_001, "use_rslora": True}, ["lora_alpha"]),
        ({"alpha_pattern": {"q_proj": 40_001}}, ["alpha_pattern:q_proj"]),
    ],
)
def test_a_scale_is_at_most_10000(base: Base, tmp_path: Path, config: dict[str, Any], fields: list[str]) -> None:
    assert _fields(_reasons(make_adapter(tmp_path / "a", config=config), base)) == fields


def test_options_switched_off_are_no_reason(base: Base, tmp_path: Path) -> None:
    off: dict[str, Any] = {"option_of_a_later_peft": None, "another": False, "third": {}, "fourth": []}
    assert _reasons(make_adapter(tmp_path / "a", config=off), base) == ()


def test_all_reasons_come_at_once(base: Base, tmp_path: Path) -> None:
    other = make_base(tmp_path / "other", seed=5, template="else", vocabulary="z")
    folder = make_adapter(tmp_path / "a", rank=32, config={"use_dora": True, "bias": "all"})
    reasons = _reasons(
        folder,
        base,
        limits=Limits(max_rank=16, max_bytes=1000, max_virtual_tokens=100),
        declared_base=other.identity,
        form=ServingForm.BF16,
        is_noop=True,
    )
    assert set(_fields(reasons)) == {
        "bias",
        "use_dora",
        "r",
        "files",
        "base.weights_digest",
        "base.tokenizer_digest",
        "base.chat_template_digest",
        "form",
        "adapter_model.safetensors",
    }
    said = " | ".join(map(str, reasons))
    for value in (base.identity.weights_digest, other.identity.weights_digest, "rank 32", "limit of 16", "allow_noop"):
        assert value in said


def test_another_form_can_be_allowed_and_so_can_a_no_op(base: Base, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    assert _fields(_reasons(folder, base, form=ServingForm.BF16)) == ["form"]
    assert _reasons(folder, base, form=ServingForm.BF16, allow_other_quantization=True) == ()
    assert _reasons(folder, base, is_noop=True, allow_noop=True) == ()


def test_a_base_without_template_differs_from_one_with(base: Base, tmp_path: Path) -> None:
    bare = make_base(tmp_path / "bare", template=None)
    (reason,) = _reasons(make_adapter(tmp_path / "a"), base, declared_base=bare.identity)
    assert "trained with none" in reason.problem


def test_an_adapter_that_matches_no_module_is_refused(base: Base, tmp_path: Path) -> None:
    tensors = {name.replace("layers", "blocks"): value for name, value in make_tensors().items()}
    reasons = _reasons(make_adapter(tmp_path / "a", tensors=tensors), base)
    assert _fields(reasons)[0] == "target_modules", "what matters comes first"
    assert sum("no linear module of this name" in reason.problem for reason in reasons) == 4


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight",
        "base_model.model.model.layers.0.mlp.up_proj.lora_A.bias",
        "base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector",
        "model.layers.0.mlp.up_proj.lora_A.weight",
        "base_model.model.../../etc.lora_A.weight",
        "base_model.model.lm_head.weight",
    ],
)
def test_names_that_are_no_lora_matrix(base: Base, tmp_path: Path, name: str) -> None:
    tensors = make_tensors() | {name: np.ones((4, 16), np.float32)}
    (reason,) = _reasons(make_adapter(tmp_path / "a", tensors=tensors), base)
    assert reason.field.endswith(name)
    assert "not a LoRA matrix" in reason.problem


def test_wrong_shapes_ranks_and_lonely_halves(base: Base, tmp_path: Path) -> None:
    tensors = make_tensors()
    path = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    tensors[path.format(0, "A")] = np.ones((4, 17), np.float32)
    tensors[path.format(0, "B")] = np.ones((16, 5), np.float32)
    del tensors[path.format(1, "B")]
    reasons = _reasons(make_adapter(tmp_path / "a", tensors=tensors), base)
    problems = {reason.field.split("layers.")[1]: reason.problem for reason in reasons}
    assert problems == {
        "0.self_attn.q_proj.lora_A": "has shape [4, 17]; rank 4 on this base needs [4, 16]",
        "0.self_attn.q_proj.lora_B": "has shape [16, 5]; rank 4 on this base needs [16, 4]",
        "1.self_attn.q_proj.lora_B": "is missing; A and B come in pairs",
    }


def test_a_wrong_rank_in_the_configuration_is_found_in_the_tensors(base: Base, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", tensors=make_tensors(rank=8), config={"r": 4})
    assert len(_reasons(folder, base)) == 8


def test_rank_patterns_are_read_as_peft_reads_them(base: Base, tmp_path: Path) -> None:
    tensors = make_tensors(rank=4, names=("mlp.down_proj",)) | make_tensors(rank=8, names=("self_attn.q_proj",))
    pattern = {"q_proj": 8}
    folder = make_adapter(tmp_path / "a", tensors=tensors, config={"rank_pattern": pattern})
    assert _reasons(folder, base) == ()
    assert _fields(_reasons(folder, base, limits=Limits(max_rank=4, max_bytes=1 << 20, max_virtual_tokens=100))) == [
        "rank_pattern:q_proj"
    ]
    # A key matches from a dot on: `proj` is no module.
    folder = make_adapter(tmp_path / "b", tensors=tensors, config={"rank_pattern": {"proj": 8}})
    assert len(_reasons(folder, base)) == 4


def test_many_reasons_of_one_kind_are_counted(base: Base, tmp_path: Path) -> None:
    tensors = {f"base_model.model.x{i}.lora_A.weight": np.ones((4, 16), np.float32) for i in range(50)}
    reasons = _reasons(make_adapter(tmp_path / "a", tensors=make_tensors() | tensors), base)
    assert len(reasons) == 21
    assert "30 more" in reasons[-1].problem


def test_an_adapted_output_head_is_refused(base: Base, tmp_path: Path) -> None:
    """Else prompts would be scored without it: vLLM computes their log-probabilities without the adapter's mapping."""
    untied = dataclasses.replace(base, modules={**base.modules, "lm_head": (VOCABULARY, WIDTH)})
    head = "base_model.model.lm_head.lora"
    tensors = make_tensors() | {
        f"{head}_A.weight": np.ones((4, WIDTH), np.float32),
        f"{head}_B.weight": np.ones((VOCABULARY, 4), np.float32),
    }
    problems = [reason.problem for reason in _reasons(make_adapter(tmp_path / "a", tensors=tensors), untied)]
    assert problems == ["an adapted output head would be left out when prompts are scored"]


@pytest.mark.parametrize(
    "names",
    [
        [f"block_sparse_moe.experts.{number}.{matrix}" for number in range(8) for matrix in ("w1", "w2", "w3")],
        ["mlp.experts", "mlp.experts.base_layer"],  # as PEFT saves experts of one piece
    ],
)
def test_adapted_experts_are_refused_once(names: list[str], base: Base, tmp_path: Path) -> None:
    """Whether the base's files hold them one by one or not; the router and a shared expert are layers like others."""
    others = {
        f"model.layers.{layer}.mlp.{name}": (3, WIDTH) for layer in range(2) for name in ("gate", "shared_expert")
    }
    experts = {f"model.layers.{layer}.{name}": (3, WIDTH) for layer in range(2) for name in names}
    mixture = dataclasses.replace(base, modules={**base.modules, **others, **experts})

    def tensors(modules: Iterable[str]) -> dict[str, Any]:
        shapes = {"A": (4, WIDTH), "B": (3, 4)}
        return {f"base_model.model.{module}.lora_{side}.weight": np.ones(shapes[side], np.float32)
                for module in modules for side in shapes}  # fmt: skip

    def found(folder: str, modules: Iterable[str], served: Base) -> tuple[Reason, ...]:
        config = {"target_modules": "all-linear"}
        return _reasons(make_adapter(tmp_path / folder, tensors=tensors(modules), config=config), served)

    assert not found("others", others, mixture)
    for folder, served in (("listed", mixture), ("not listed", base)):
        (reason,) = found(folder, experts, served)
        assert f"{min(experts)} and {len(experts) - 1} more" in reason.problem and "exclude_modules" in reason.remedy
