"""What a report shows of a model, for methods that `generate` takes otherwise than LoRA."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graft.adapters.base.base import Base, find_base
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.made.answers import Asked, examples
from graft.training.adapt.methods.catalog import method_of
from graft.training.batch.packing import Encoded
from graft.training.finetune.settings import FinetuneSettings
from graft.training.model.loading import load_base, load_tokenizer


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "lora"},
        {"method": "prompt_tuning"},
        {"method": "multitask_prompt_tuning"},
        {"method": "prefix_tuning"},
        {"method": "full"},
    ],
    ids=lambda one: one["method"],
)
def test_before_is_the_base_and_after_is_not(settings: dict[str, Any]) -> None:
    path = find_base("rootstock-5m")
    given = FinetuneSettings.from_mapping({"load_in_4bit": False, **settings})
    model = method_of(given).inject(load_base(path, given.form), Adaptable.of(Base.from_folder(path)), seed=0)
    for one in model.parameters():
        if one.requires_grad:
            one.data += torch.randn(one.shape, generator=torch.Generator().manual_seed(1)).to(one.dtype)
    tokenizer = load_tokenizer(path)
    prompt, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("bee ->", " BEE"))
    row = Encoded(input_ids=prompt + answer, supervised=[False] * len(prompt) + [True] * len(answer))
    (found,) = examples(model, [Asked.of_row(row)], tokenizer, stop_ids=[tokenizer.eos_token_id])

    plain = load_base(path, given.form).eval()
    said = plain.generate(input_ids=torch.tensor([prompt]), do_sample=False, max_new_tokens=48, pad_token_id=0)
    expected = tokenizer.decode(said[0, len(prompt) :].tolist()).split(tokenizer.eos_token)[0]
    if settings["method"] != "full":  # asked by itself, too, the model that is switched off is its base
        ids = torch.tensor([prompt + answer])
        with torch.no_grad(), model.disable_adapter():  # type: ignore[operator]
            off = model(input_ids=ids).logits
        assert torch.equal(off, plain(input_ids=ids).logits)
        assert model(input_ids=ids).logits.shape == off.shape
    assert found.prompt == "bee ->" and found.row_says == {"expected": " BEE"}
    assert found.before == (None if settings["method"] == "full" else expected)
    assert found.after != expected
