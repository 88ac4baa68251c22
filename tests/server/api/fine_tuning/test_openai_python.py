"""openai-python's own tests of files and fine-tuning, unmodified, against the server.

They are not copied here: `OPENAI_PYTHON_CHECKOUT` names a checkout of github.com/openai/openai-python, and
`OPENAI_PYTHON_INTERPRETER` a Python that has `openai`, pytest, pytest-asyncio, pytest-xdist, rich and aiohttp.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
import uvicorn

from tests.running import free_port
from tests.server.api.conftest import Server
from tests.server.api.fine_tuning.stand_ins import StandIns

pytestmark = pytest.mark.slow
TESTS = ("tests/api_resources/test_files.py", "tests/api_resources/fine_tuning")
# By class, without `Async`, and by name.
MEANINGLESS: Mapping[str, str] = {
    r"Jobs\.test_method_create_with_all_params": (
        "settings of three methods in one job, a Weights & Biases account, and the training file as validation file"
    ),
    r"Jobs\.test_method_list_with_all_params": "limit 0, and a cursor that is none",
    r"Jobs\.test_method_list_events_with_all_params": "limit 0, and a cursor that is none",
    r"Jobs\.test_(?!path_params).*_pause": "the type's status has no `paused` yet, which the REST reference has",
    r"Files\.test_method_list_with_all_params": "limit 0, and a cursor and a purpose that are none",
    r"Checkpoints\.test_method_list_with_all_params": "limit 0, and a cursor that is none",
    r"Permissions\.test_(?!path_params).*": "checkpoints are shared among OpenAI's projects; there are none here",
}


async def test_what_makes_sense_passes(server: Server, tmp_path: Path) -> None:
    checkout, python = os.environ.get("OPENAI_PYTHON_CHECKOUT"), os.environ.get("OPENAI_PYTHON_INTERPRETER")
    if not checkout or not python:
        pytest.skip("OPENAI_PYTHON_CHECKOUT and OPENAI_PYTHON_INTERPRETER name no checkout and no Python for it")
    stand_ins, port = await StandIns.made(server), free_port()
    front = uvicorn.Server(uvicorn.Config(stand_ins.app(), port=port, log_level="error", lifespan="off"))
    serving = asyncio.create_task(front.serve())
    environment = {
        **os.environ,
        "TEST_API_BASE_URL": f"http://127.0.0.1:{port}/v1",
        "PYTHONPATH": str(Path(checkout) / "src"),
    }
    found = tmp_path / "found.xml"
    process = await asyncio.create_subprocess_exec(
        python, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", f"--junitxml={found}", *TESTS,
        cwd=checkout, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    front.should_exit = True
    await serving
    assert found.exists(), said.decode()[-4000:]
    (tmp_path / "said.txt").write_bytes(said)
    passed, failed = set[str](), set[str]()
    for case in ElementTree.parse(found).iter("testcase"):
        room = case.get("classname", "").rpartition(".")[2].removeprefix("Test").removeprefix("Async")
        is_wrong = case.find("failure") is not None or case.find("error") is not None
        if case.find("skipped") is None:
            (failed if is_wrong else passed).add(f"{room}.{case.get('name', '')}")
    reasons = {one: [known for known in MEANINGLESS if re.match(known, one)] for one in failed}
    assert not (unexpected := sorted(one for one, known in reasons.items() if not known)), unexpected
    # What passes by now is struck off the list.
    assert {known for found_here in reasons.values() for known in found_here} == MEANINGLESS.keys()
    assert not (both := sorted(one for one in passed if any(re.match(known, one) for known in MEANINGLESS))), both
    assert len(passed) > 100
