"""Patterns in adapter_config.json mean the modules that PEFT finds for them, and cannot hold the server up."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graft.adapters.base.base import Base
from graft.adapters.compatibility import incompatibilities
from graft.adapters.errors import InvalidAdapter
from graft.adapters.folder.manifest import read_manifest
from graft.adapters.folder.pattern_checks import pattern_reasons
from graft.adapters.folder.peft_patterns import resolve
from graft.adapters.form import ServingForm
from tests.adapters.making import LIMITS, make_adapter, make_tensors

NAMES = [
    f"model.layers.{layer}.{module}"
    for layer in (0, 1, 3, 13)
    for module in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "mlp.experts.1.down_proj")
]
# As trainers write them: names and their ends, layers by number, alternatives, look-aheads, classes.
PATTERNS = [
    r".*\.layers\.3\..*(q_proj|v_proj)$",
    r"^model\.layers\.(0|13)\.mlp\..*",
    r"q_proj",
    r"self_attn.q_proj",
    r"proj",
    r"layers.1.self_attn.q_proj",
    r"layers\.1\.self_attn\.q_proj",
    r"(?:.*?(?:self_attn|attention).*?(?:k_proj|v_proj|q_proj|o_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.mlp\.(?:up_proj))",
    r"^(?!.*(lm_head|mlp)).*\.(q_proj|up_proj|down_proj)$",
    r"model\.layers\.[0-2]\..*",
    r".*experts\.\d+\.down_proj",
    r"(up|down)_proj",
    r"[^.]*_proj",
]


def by_peft(config: dict[str, Any], names: list[str]) -> tuple[set[str], dict[str, int]]:
    """The oracle: what PEFT targets, and with which rank where a pattern gives one."""
    peft = pytest.importorskip("peft")
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists
    from peft.utils.other import get_pattern_key

    lora = peft.LoraConfig(**config)
    targeted = set()
    for name in names:
        found = check_target_module_exists(lora, name)
        if found and not isinstance(found, _ExcludedModule):
            targeted.add(name)
    ranks = {name: lora.rank_pattern.get(get_pattern_key(lora.rank_pattern.keys(), name)) for name in names}
    return targeted, {name: rank for name, rank in ranks.items() if rank is not None}


def some_config(rng: random.Random) -> dict[str, Any]:
    """Any of the keys that name modules, each as a list or as a pattern."""
    ends = ["q_proj", "v_proj", "up_proj", "down_proj", "mlp.up_proj", NAMES[0]]
    config: dict[str, Any] = {
        "target_modules": rng.choice([rng.sample(ends, 3), rng.choice(PATTERNS)]),
        "rank_pattern": {pattern: rng.randint(1, 9) for pattern in rng.sample(PATTERNS, rng.randint(0, 4))},
    }
    if rng.random() < 0.3:
        config["exclude_modules"] = rng.choice([rng.sample(ends, 1), rng.choice(PATTERNS)])
    if isinstance(config["target_modules"], list) and rng.random() < 0.6:
        config["layers_to_transform"] = rng.choice([3, [0, 13], [1], []])
        if rng.random() < 0.5:
            config["layers_pattern"] = rng.choice(["layers", ["blocks", "layers"], "experts", "lay[a-z]+"])
    return config


def test_modules_and_ranks_are_those_of_peft() -> None:
    rng = random.Random(11)
    num_targeted = num_ranked = 0
    for _ in range(25):
        config = some_config(rng)
        assert list(pattern_reasons({"target_modules": ["x"], **config})) == []
        found = resolve(config, NAMES)
        targeted, ranks = by_peft(config, NAMES)
        assert (found.targeted, dict(found.ranks)) == (targeted, ranks), config
        num_targeted += len(targeted)
        num_ranked += len(ranks)
    assert num_targeted > 60 and num_ranked > 60


def test_every_linear_layer_is_all_but_the_output_head() -> None:
    names = [*NAMES, "lm_head"]
    assert resolve({"target_modules": "all-linear"}, names).targeted == set(NAMES)


def test_an_adapter_with_a_pattern_of_ranks_fits(base: Base, tmp_path: Path) -> None:
    tensors = make_tensors(rank=4)
    for name in [name for name in tensors if "layers.1." in name and "q_proj" in name]:
        shape = tensors[name].shape
        tensors[name] = np.ones((8, shape[1]) if "lora_A" in name else (shape[0], 8), np.float32)
    config = {"rank_pattern": {r".*\.layers\.1\..*(q_proj|v_proj)$": 8}, "target_modules": r".*\.(q_proj|down_proj)"}
    manifest = read_manifest(make_adapter(tmp_path / "a", tensors=tensors, config=config))
    form = ServingForm.NF4
    assert incompatibilities(manifest, base, LIMITS, declared_base=None, form=form, serving_form=form) == ()


def test_a_tensor_that_peft_would_leave_out_is_no_part_of_the_adapter(base: Base, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", config={"exclude_modules": r".*\.layers\.1\..*down_proj"})
    form = ServingForm.NF4
    (reason,) = incompatibilities(read_manifest(folder), base, LIMITS, declared_base=None, form=form, serving_form=form)
    assert reason.field.endswith("layers.1.mlp.down_proj") and "as PEFT would" in reason.problem


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank_pattern", {"(a+)+$": 4}),
        ("rank_pattern", {"((q_proj)?x)*": 4}),
        ("alpha_pattern", {"(a|ab)*b": 4}),
        ("alpha_pattern", {r"(\w)\1": 4}),
        ("alpha_pattern", {"": 4}),
        ("rank_pattern", {"(q_proj": 4}),
        ("rank_pattern", {"x" * 5000: 4}),
        ("rank_pattern", {f"{number}.q_proj": 4 for number in range(1025)}),
        ("alpha_pattern", {f"{number}{'x' * 700}": 4 for number in range(100)}),
        ("layers_pattern", [f"blocks{number}" for number in range(1025)]),
        ("target_modules", "(.*)*"),
        ("target_modules", "(?P<a>q)(?P=a)"),
        ("target_modules", ""),
        ("exclude_modules", "([a-z_]+|.)+"),
        ("exclude_modules", [3]),
        ("layers_pattern", ["(?P<idx>a)"]),
        ("layers_pattern", {"a": 1}),
        ("layers_to_transform", ["1"]),
    ],
)
def test_what_is_never_evaluated(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(InvalidAdapter) as caught:
        read_manifest(make_adapter(tmp_path / "a", config={field: value}))
    assert [reason.field for reason in caught.value.reasons] == [f"adapter_config.json:{field}"]


def test_a_pattern_that_takes_too_long_is_given_up(base: Base, tmp_path: Path) -> None:
    """No group is repeated, but a name of 60 characters has billions of ways to be cut into 14 parts."""
    slow = ".*" * 14 + "!"
    assert list(pattern_reasons({"target_modules": ["x"], "rank_pattern": {slow: 4}})) == []
    folder = make_adapter(tmp_path / "a", config={"rank_pattern": {slow: 4}})
    form = ServingForm.NF4
    reasons = incompatibilities(read_manifest(folder), base, LIMITS, declared_base=None, form=form, serving_form=form)
    assert [reason.field for reason in reasons] == ["adapter_config.json"]
    assert "2 s of computing" in reasons[0].problem and "name the modules instead" in reasons[0].remedy
