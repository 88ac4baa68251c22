"""Where the engine's sockets lie while it is started, and what this process's environment is afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graft.server.engine.vllm_environment import sockets_in_a_folder

NAME = "VLLM_RPC_BASE_PATH"


@pytest.mark.parametrize("is_set", [True, False])
def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_set: bool) -> None:
    monkeypatch.delenv(NAME, raising=False)
    if is_set:
        monkeypatch.setenv(NAME, str(tmp_path))
    before = dict(os.environ)
    with sockets_in_a_folder() as folder:
        assert os.environ[NAME] == folder.name and (not is_set or Path(folder.name).parent == tmp_path)
    assert dict(os.environ) == before and Path(folder.name).is_dir()
    folder.cleanup()
    with pytest.raises(RuntimeError), sockets_in_a_folder() as folder:
        raise RuntimeError("the engine did not start")
    assert dict(os.environ) == before and not Path(folder.name).exists()
