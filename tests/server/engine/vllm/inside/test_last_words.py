"""Why an engine did not start reaches whoever started it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from graft.adapters.base.base import Base, shipped_bases
from graft.server.engine.engine import EngineError
from graft.server.engine.vllm.inside.last_words import tell_why, told_why
from graft.server.engine.vllm.launch import start_engine
from tests.server.engine.making import engine_settings

_VLLMS = "Free memory (3.1/23.6 GiB) is less than desired. Decrease `gpu_memory_utilization`\nor `max_model_len`."


def _fail(folder: str, *messages: str) -> None:
    os.environ["VLLM_RPC_BASE_PATH"] = folder
    tell_why()
    tell_why()
    logger = logging.getLogger("vllm.v1.engine.core")
    logger.error("something else failed", exc_info=ValueError("no matter"))
    for message in messages:
        logger.error("EngineCore failed to start.", exc_info=ValueError(message))


def _failed(folder: Path, *messages: str) -> str:
    process = multiprocessing.get_context("spawn").Process(target=_fail, args=(str(folder), *messages))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    return told_why(folder)


def test_the_first_error_is_told_by_our_settings_names(tmp_path: Path) -> None:
    said = _failed(tmp_path, _VLLMS, "initialization failed due to an exception in a background process")
    assert said.endswith("Decrease `gpu_memory_fraction` or `max_model_tokens`.")


def test_nothing_is_told_where_nothing_was_said(tmp_path: Path) -> None:
    assert _failed(tmp_path) == ""


def test_a_server_does_not_listen_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", str(tmp_path))
    before = list(logging.getLogger("vllm").handlers)
    tell_why()
    assert logging.getLogger("vllm").handlers == before


@pytest.mark.slow
async def test_an_engine_that_cannot_read_its_weights_says_so(tmp_path: Path) -> None:
    shipped = Base.from_folder(next(iter(shipped_bases().values())))
    folder = Path(shutil.copytree(shipped.path, tmp_path / "base"))
    settings = engine_settings(Base.from_folder(folder))
    (weights,) = folder.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(EngineError) as caught:
        await start_engine(settings)
    assert "did not start" in str(caught.value) and "root cause" not in str(caught.value)
