"""What compiles while an engine starts on a GPU, and what is taken where nothing can be compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from graft.cli.diagnosis.compilers import Compilers, compilers, findings

HOPPER, BLACKWELL, BLACKWELL_CONSUMER = (9, 0), (10, 0), (12, 0)


@pytest.mark.parametrize(
    ("here", "states"),
    [
        (Compilers(c="gcc", nvcc="nvcc"), ["ok", "ok"]),
        (Compilers(c=None, nvcc=None), ["problem", "notice"]),
        (Compilers(c="gcc", nvcc=None, has_headers=False), ["problem", "notice"]),
        (Compilers(c=None, nvcc=None, has_headers=False, has_cache=True), ["notice", "notice"]),
        (Compilers(c="gcc", nvcc="nvcc", has_ninja=False), ["ok", "notice"]),
        (Compilers(c="gcc", nvcc=None, has_ninja=False, has_kernels=True), ["ok", "ok"]),
    ],
)
def test_what_compiles_while_the_engine_starts(here: Compilers, states: list[str]) -> None:
    found = list(findings(here, [HOPPER]))
    assert [one.state for one in found] == states
    if here.c is None:
        assert "a C compiler" in found[0].found and "apt-get install gcc" in found[0].remedy


@pytest.mark.parametrize(("capability", "is_first"), [(HOPPER, False), (BLACKWELL, True), (BLACKWELL_CONSUMER, False)])
def test_blackwell_without_nvcc_is_told_what_it_gets(capability: tuple[int, int], is_first: bool) -> None:
    _, found = findings(Compilers(c="gcc", nvcc=None), [None, capability])
    assert ("vLLM's first choice" in found.found) is is_first
    assert ("the engine passes over FlashInfer" in found.remedy) is is_first
    assert "CUDA_HOME to a CUDA toolkit" in found.remedy


def test_nvcc_is_where_flashinfer_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA_HOME alone where it is set; else PATH, then the toolkit's usual place."""
    for name in ("home", "path"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "nvcc").touch(mode=0o755)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path" / "bin"))
    assert compilers().nvcc == str(tmp_path / "path" / "bin" / "nvcc")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    assert compilers().nvcc == str(tmp_path / "home" / "bin" / "nvcc")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "nothing"))
    assert compilers().nvcc is None and not compilers().has_ninja
    monkeypatch.delenv("CUDA_HOME")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("graft.cli.diagnosis.compilers._TOOLKIT", str(tmp_path / "home"))
    assert compilers().nvcc == str(tmp_path / "home" / "bin" / "nvcc")
