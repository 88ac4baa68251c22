"""What a method says of its way to a server is what ``graft compile`` then does with what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.compiler.compilation import Compilation
from graft.training.adapt.method import Route
from graft.training.adapt.methods.catalog import method_of
from graft.training.adapt.settings import AdaptSettings
from graft.training.adapt.written import whole_adapter
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
