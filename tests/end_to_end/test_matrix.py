"""What fits what: every family of decoders in every form, from training to an adapter's answer (case M1)."""

from __future__ import annotations

import os

import pytest

from tests.cases.harness.command import Commands
from tests.cases.harness.forkserver import ForkServer
from tests.end_to_end.matrix import ALONE, FAMILIES, FORMS, REFUSED, WITH_ADAPTERS, Cell, Matrix, table

PLAIN_ALONE = ("gpt2", "mixtral")
CHOSEN = tuple(filter(None, os.environ.get("MATRIX_FAMILIES", "").split(","))) or FAMILIES


@pytest.mark.slow
def test_what_fits_what(tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> None:
    """Each cell works whole, or refuses in one line before work is done. MATRIX_FAMILIES=llama takes one."""
    forkserver = ForkServer(tmp_path_factory.mktemp("said"))
    cells: dict[tuple[str, str], Cell] = {}
    try:
        for family in CHOSEN:
            matrix = Matrix(commands=Commands(forkserver, tmp_path_factory.mktemp(family)))
            base = matrix.pretrain(family)
            for form in FORMS:
                cells[family, form] = cell = matrix.cell(base, form)
                with capsys.disabled():
                    print(f"{family}, {form}: {cell.verdict} {cell.said}", flush=True)
    finally:
        forkserver.close()
    with capsys.disabled():
        print(f"\n\n{table(cells, CHOSEN, FORMS)}\n")
    for (family, form), cell in cells.items():
        alone = ALONE if form == "bf16" else REFUSED
        assert cell.verdict == (alone if family in PLAIN_ALONE else WITH_ADAPTERS), (family, form, cell.said)
