"""Classes are asked for like texts: one tenant's adapters, deadlines, counts, names, and errors in one answer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from graft.adapters.folder.head import Head, Problem
from graft.server.api.classes import classified
from graft.server.engine.engine import HeadOutputs
from graft.v1 import adapter_pb2
from graft.v1 import inference_pb2 as pb
from tests.adapters.making import make_adapter
from tests.server.api.conftest import Server, StartServer


async def headed(server: Server, name: str, *, seed: int, num: int = 3, **options: Any) -> None:
    """An adapter whose head says 0, 1, 2 … of every text."""
    folder = make_adapter(server.folder / f"{name}-{seed}", seed=seed, base=server.base)
    width = server.base.embedding_width
    assert width is not None
    file = folder / "adapter_model.safetensors"
    score = np.ones((num, width), np.float32)
    save_file({**load_file(file), "base_model.model.score.weight": score}, file, metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= {"task_type": "SEQ_CLS", "modules_to_save": ["score"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    metadata = options.pop("metadata", None)
    request = adapter_pb2.ImportVersionRequest(adapter=name, path=str(folder), alias="stable", **options)
    await server.adapters.ImportVersion(request, metadata=metadata)


async def test_a_tenants_head_is_nobody_elses_and_its_prompts_share_no_cache(
    start_server: StartServer, tmp_path: Path
) -> None:
    tenants = tmp_path / "tenants.json"
    tenants.write_text(json.dumps({"ann-7Q==": "ann", "joe.token": "joe"}))
    server = await start_server(tenants_file=tenants)
    ann, joe = ((("authorization", f"Bearer {token}"),) for token in ("ann-7Q==", "joe.token"))
    await headed(server, "films", seed=1, metadata=ann)
    ask = pb.ClassifyRequest(model="films:stable", inputs=[pb.ClassifyInput(text="x"), pb.ClassifyInput(text="yz")])
    reply = await server.inference.Classify(ask, metadata=ann)
    assert (reply.answerer.adapter, reply.answerer.version_number) == ("films", 1)
    assert list(reply.labels) == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert [one.label for one in reply.classifications] == ["LABEL_2", "LABEL_2"]
    total = sum(math.exp(one) for one in range(3))
    assert list(reply.classifications[0].probs) == pytest.approx([math.exp(one) / total for one in range(3)])
    assert (reply.usage.prompt_tokens, reply.usage.cached_tokens) == (3, 2)
    assert server.script.salts == ["ann", "ann"]
    assert server.metric("graft_tokens_total", tenant="ann", kind="prompt") == 3
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.inference.Classify(ask, metadata=joe)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_deadline_ends_it_and_all_that_is_wrong_is_told_at_once(server: Server) -> None:
    await headed(server, "films", seed=1)
    server.script.hang = True
    ask = pb.ClassifyRequest(model="films", inputs=[pb.ClassifyInput(text="x")])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.inference.Classify(ask, timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    server.script.hang = False
    wrong = [
        pb.ClassifyInput(),
        pb.ClassifyInput(token_ids=pb.TokenIds(ids=[1, 10**6]), text_pair="a"),
        pb.ClassifyInput(text="a", text_pair=""),
    ]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.inference.Classify(pb.ClassifyRequest(model="films", inputs=wrong))
    told = str(caught.value.details())
    for field in ("inputs[0].text", "inputs[1].token_ids.ids[1]", "inputs[1].text_pair", "inputs[2].text_pair"):
        assert field in told
    assert (await server.inference.Classify(ask)).classifications[0].label == "LABEL_2"
    many = await server.http.post("/v1/classify", json={"model": "films", "input": ["a"] * 129})
    assert many.status_code == 400 and "the limit is 128" in many.json()["error"]["message"]


@pytest.mark.parametrize("logits", [(900.0, -900.0), (-800.0, -801.0), (0.0, 0.0)])
def test_probabilities_of_any_logits(logits: tuple[float, float]) -> None:
    found = HeadOutputs(logits=logits)
    one = classified(found, Head(labels=("a", "b"), problem=Problem.ONE))
    right = 1 / (1 + math.exp(min(logits[1] - logits[0], 700)))
    assert one.probs == pytest.approx((right, 1 - right)) and one.label == "a"
    several = classified(found, Head(labels=("a", "b"), problem=Problem.SEVERAL))
    assert several.probs == pytest.approx([0.5 * (1 + math.tanh(logit / 2)) for logit in logits])
