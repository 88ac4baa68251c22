"""What a method says of its way to a server is what ``graft compile`` then does with what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.compiler.compilation import Compilation
from graft.training.adapt.made.written import whole_adapter
from graft.training.adapt.method import Route
from graft.training.adapt.methods.catalog import method_of
from graft.training.adapt.settings import AdaptSettings
from graft.training.finetune.settings import FinetuneSettings
from graft.training.finetune.skeleton import Skeleton
from graft.training.model.loading import load_base
from tests.training.adapt.choices import METHODS

COMPILED = ("dora", "adalora", "loha", "lokr", "vera", "ia3", "oft", "trainable_tokens")


@pytest.mark.parametrize("name", COMPILED)
def test_a_way_is_the_compiler_s(name: str, tiny_base: Path, tmp_path: Path) -> None:
    base = Base.from_folder(tiny_base)
    adaptable = Adaptable.of(base)
    method = method_of(AdaptSettings.from_mapping({"method": name, **METHODS[name]}))
    model = method.inject(load_base(tiny_base, ServingForm.BF16), adaptable, seed=0)
    generator = torch.Generator().manual_seed(0)
    for one in model.parameters():
        if one.requires_grad:
            one.data += torch.randn(one.shape, generator=generator) / 50
    (tmp_path / "trained").mkdir()
    method.save(model, whole_adapter(model), tmp_path / "trained")
    compilation = Compilation(
        adapter=tmp_path / "trained", base=base, form=ServingForm.BF16, output=tmp_path / "compiled"
    )
    report, way = compilation.execute(), method.way(adaptable)
    assert report.route == way.route
    if way.route is Route.EXACT:
        assert way.rank is not None and report.rank <= way.rank


@pytest.mark.parametrize("name", METHODS)
def test_a_plan_counts_what_learns(name: str, tiny_base: Path) -> None:
    """Without a weight, in NF4 but where the base's own weights learn."""
    settings = FinetuneSettings.from_mapping({"method": name, **METHODS[name]})
    skeleton = Skeleton.of(tiny_base, settings)
    base = Adaptable.of(Base.from_folder(tiny_base))
    model = method_of(settings).inject(load_base(tiny_base, settings.form), base, seed=0)
    assert skeleton.adapted.num_adapter == sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert str(skeleton.method.way(skeleton.base)) == str(method_of(settings).way(base))
    need = skeleton.adapted.memory(rows=2, length=32, recomputes="none", device="cpu")
    assert need.adapter == 18 * skeleton.adapted.num_adapter and need.total > 0
