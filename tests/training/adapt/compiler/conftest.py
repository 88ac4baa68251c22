"""Every method once, trained and compiled; each test looks at another side of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.adapt.compiler.compilation import Compilation
from graft.training.adapt.compiler.report import Report
from tests.training.adapt.compiler.making import trained


@dataclass(frozen=True)
class Compiled:
    base: Base
    original: Path
    output: Path
    report: Report


Compile = Callable[..., Compiled]


@pytest.fixture
def compiled(tiny_base: Path, tmp_path: Path) -> Compile:
    """Trains what a configuration says, and compiles it; ``initial=True`` hands over the adapter before that."""

    def run(config: Any, *, form: ServingForm = ServingForm.BF16, initial: bool = False, **options: Any) -> Compiled:
        before = tmp_path / "initial" if initial else None
        original = trained(tiny_base, config, tmp_path / "original", initial=before)
        base, output = Base.from_folder(tiny_base), tmp_path / "compiled"
        compilation = Compilation(adapter=original, base=base, form=form, output=output, initial=before, **options)
        return Compiled(base, original, output, compilation.execute())

    return run
