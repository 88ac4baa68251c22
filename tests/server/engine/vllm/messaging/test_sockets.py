"""Where the engine's sockets lie while it is started, and what this process's environment is afterwards."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest

from graft.adapters.base.base import Base
from graft.server.engine.engine import EngineError
from graft.server.engine.vllm import launch as vllm_launch
from graft.server.engine.vllm.environment import sockets_in_a_folder
from tests.server.engine.making import engine_settings

NAME = "VLLM_RPC_BASE_PATH"


@pytest.mark.parametrize("variable", [NAME, "TMPDIR"])
def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    if variable == NAME:
        monkeypatch.setenv(NAME, "/tmp")
    before = dict(os.environ)
    with sockets_in_a_folder() as folder:
        assert os.environ[NAME] == str(folder.path) and folder.path.parent.parent == Path("/tmp")
        assert folder.path.parent.stat().st_mode & 0o777 == 0o700
    assert dict(os.environ) == before and folder.path.is_dir()
    folder.close()
    with pytest.raises(RuntimeError), sockets_in_a_folder() as folder:
        raise RuntimeError("the engine did not start")
    assert dict(os.environ) == before and not folder.path.exists()


@pytest.mark.parametrize(("place", "problem"), [("nowhere", "no place for"), ("x" * 90, "longer than 107")])
def test_a_place_that_cannot_be_used_is_named_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, problem: str
) -> None:
    if place != "nowhere":
        (tmp_path / place).mkdir()
    monkeypatch.setenv(NAME, str(tmp_path / place))
    with (
        pytest.raises(EngineError, match=rf"{problem}.*VLLM_RPC_BASE_PATH or TMPDIR name a folder"),
        sockets_in_a_folder(),
    ):
        pass


@pytest.mark.parametrize("fault", ["another user's", "a link", "open to all"])
def test_a_folder_that_another_user_may_have_put_there_is_refused(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    uid = os.getuid()
    with tempfile.TemporaryDirectory(prefix="g", dir="/tmp") as place:
        monkeypatch.setenv(NAME, place)
        if fault == "another user's":
            uid += 1
            monkeypatch.setattr(os, "getuid", lambda: uid)
        root = Path(place) / f"graft-{uid}"
        (Path(place) / "elsewhere").mkdir(mode=0o700)
        root.symlink_to("elsewhere") if fault == "a link" else root.mkdir(mode=0o700)
        if fault == "open to all":
            root.chmod(0o777)
        with (
            pytest.raises(EngineError, match=rf"{root} is no folder that this user alone can write in.*remove it"),
            sockets_in_a_folder(),
        ):
            pass


async def test_two_engines_that_start_at_once_take_turns_with_the_environment(
    monkeypatch: pytest.MonkeyPatch, base: Base
) -> None:
    before, folders = dict(os.environ), []

    def failing(*arguments: object, **others: object) -> None:
        folders.append(os.environ[NAME])
        asyncio.run(asyncio.sleep(0.05))  # in this thread, while the other could begin
        assert os.environ[NAME] == folders[-1]
        raise RuntimeError("no engine here")

    monkeypatch.setattr(vllm_launch.AsyncLLM, "from_engine_args", failing)
    starts = [vllm_launch.launch(engine_settings(base)) for _ in range(2)]
    outcomes = await asyncio.gather(*starts, return_exceptions=True)
    assert [str(one).endswith("no engine here") for one in outcomes] == [True, True]
    assert NAME not in os.environ and NAME not in before
    assert len({*folders}) == 2 and Path(folders[0]).parent == Path(folders[1]).parent
