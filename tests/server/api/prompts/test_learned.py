"""What a program has learned of one tenant's inputs is not told to another, though the program is the same."""

from __future__ import annotations

import json
from pathlib import Path

from graft.client import AsyncClient
from tests.server.api.conftest import StartServer

GOOD = {
    "prompt": "{{review}} Good:",
    "output": {"type": "choices", "choices": ["yes", "no"]},
    "scoring": {"calibration": "batch"},
}


async def test_batch_calibration_is_a_tenants_own(start_server: StartServer, tmp_path: Path) -> None:
    tenants = tmp_path / "tenants.json"
    tenants.write_text(json.dumps({"ann-7Q==": "ann", "joe.token": "joe"}))
    server = await start_server(tenants_file=tenants)
    target = f"127.0.0.1:{server.grpc_port}"
    async with AsyncClient(target, token="ann-7Q==") as ann, AsyncClient(target, token="joe.token") as joe:
        versions = [await each.push_prompt("good", GOOD, labels=["production"]) for each in (ann, joe)]
        assert versions[0].digest == versions[1].digest
        for number in range(3):
            ran = await ann.run_prompt("good", {"review": str(number)})
            assert f"this is input {number + 1}," in ran.result.notices[0]
        ran = await joe.run_prompt("good", {"review": "Fine."})
        assert "this is input 1," in ran.result.notices[0]
