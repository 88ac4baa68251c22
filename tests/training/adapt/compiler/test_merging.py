"""What is no LoRA adapter becomes a base: its weights are those of peft's ``merge_and_unload`` in float32, as far as
the base's type holds them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.adapt.compiler import merged_base
from graft.training.adapt.method import Route
from graft.training.errors import NotTheSame
from graft.training.model.quantized import nf4_round_trip
from tests.training.adapt.compiler.conftest import Compile
from tests.training.adapt.compiler.making import EXACT, MERGED, by_peft, logits, plain


@pytest.mark.parametrize("name", MERGED)
def test_the_base_says_what_the_adapted_model_says(name: str, compiled: Compile, tiny_base: Path) -> None:
    made = compiled(MERGED[name]())
    assert made.report.route is Route.MERGE and made.report.rank is None
    assert "a base and no adapter" in made.report.notes[0]
    there, here = by_peft(tiny_base, made.original), plain(made.output)
    said = logits(there)
    assert (said - logits(plain(tiny_base))).abs().max() > 1e-3
    torch.testing.assert_close(logits(here), said, rtol=0, atol=0.05)  # bfloat16's rounding of the weights
    found = Base.from_folder(made.output)
    assert found.identity.differences(made.base.identity)[0] == "weights"
    assert found.identity.tokenizer_digest == made.base.identity.tokenizer_digest
    if name == "lora of the embedding":
        return  # peft's merge of tied weights is another model, see below
    merged = dict(there.merge_and_unload().named_parameters())
    for path, one in here.named_parameters():
        assert torch.equal(one, merged[path].to(torch.bfloat16).float()), path


def test_an_adapter_is_merged_where_that_is_asked_for(compiled: Compile) -> None:
    made = compiled(EXACT["lora"](), merge=True)
    assert made.report.route is Route.MERGE and made.report.notes == ["a base and no adapter: --merge asked for it"]


@torch.no_grad()
def test_an_nf4_base_is_merged_as_what_its_bits_stand_for(compiled: Compile, tiny_base: Path) -> None:
    """And what bringing it into NF4 again costs is measured: here by the formula, with bitsandbytes' own rounding."""
    made = compiled(MERGED["dora"](), form=ServingForm.NF4)
    held = {name: one.to(torch.bfloat16) for name, one in plain(tiny_base).named_parameters()}
    merged = {
        name: one for name, one in plain(made.output).named_parameters() if "q_proj" in name or "down_proj" in name
    }
    errors, sizes = [], []
    for name, one in merged.items():
        before = nf4_round_trip(held[name]).double()
        again = nf4_round_trip(one.to(torch.bfloat16)).double()
        errors.append((one.double() - again).norm() ** 2)
        sizes.append((one.double() - before).norm() ** 2)
    expected = float((sum(errors) / sum(sizes)) ** 0.5)
    assert expected > 0.1, "four bits hold little of a small update"
    assert made.report.relative_error == pytest.approx(expected, rel=0.02)  # but for bfloat16's rounding of the files
    assert "--svd RANK" in made.report.notes[1]
    written = made.report.as_written  # served so, bfloat16 rounds by half a unit of its eight bits at most
    assert written is not None and written.relative_error < expected / 10 and written.nats < made.report.nats


def test_the_configuration_stays_but_for_its_type(compiled: Compile, tiny_base: Path) -> None:
    made = compiled(MERGED["dora"]())
    before, after = (json.loads((one / "config.json").read_text()) for one in (tiny_base, made.output))
    assert {name for name in before | after if before.get(name) != after.get(name)} <= {"dtype", "torch_dtype"}
    names = {path.name for path in made.output.iterdir()}
    assert names == {path.name for path in tiny_base.iterdir()} | {"compiled.json"}


def test_a_head_of_its_own_is_no_longer_tied(compiled: Compile) -> None:
    made = compiled(MERGED["lora with a head"]())
    assert json.loads((made.output / "config.json").read_text())["tie_word_embeddings"] is False


def test_a_merge_that_changes_what_is_said_is_refused(
    compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """peft merges an adapter of a tied embedding into the output head, too, where it computes without it."""
    monkeypatch.setattr(merged_base, "_untie", lambda model: None)
    with pytest.raises(NotTheSame, match="merging changed what it says"):
        compiled(MERGED["lora of the embedding"]())
    assert [path.name for path in tmp_path.iterdir()] == ["original"]
