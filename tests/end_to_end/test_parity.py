"""F7, rule 4: what the trainer recorded, or peft computes, is what the engine serves; anything else never goes live."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_bfloat16
from safetensors.torch import save_file as save_bfloat16

from graft.adapters.adapter import UNKNOWN_LINEAGE
from graft.adapters.base.base import Base
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.folder.reference import Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.client import Client, Conflict, InvalidArgument, NotFound
from graft.server.parity.oracle import _Oracle as Oracle
from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from tests.adapters.making import make_base
from tests.running import Server, start_server, stop_server
from tests.server.engine.making import write_adapter, write_classifier, write_soft_prompt

LIMIT = 0.05


@pytest.fixture(scope="module")
def trained(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that the trainer made in half a minute at most, with its record and its reference."""
    return train(base, tmp_path_factory.mktemp("trained"), learning_rate=0.005, max_steps=30)


def train(base: Base, folder: Path, **settings: object) -> Path:
    rows = [{"prompt": f"{word} -> ", "completion": word.upper()} for word in ("ant", "bee", "cat", "dog")]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = FinetuneSettings.from_mapping({"per_device_train_batch_size": 4, **settings})
    return Finetune(base=base, data=data, settings=asked, work=folder / "run").execute()


@pytest.fixture(scope="module")
def checking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("checking"), "--num-slots", "4", "--parity", "full")
    yield running
    assert stop_server(running) == 0


@pytest.fixture(scope="module")
def graft(checking: Server) -> Iterator[Client]:
    with Client(checking.grpc) as client:
        yield client


def receipts(client: Client, name: str, version: int = 1) -> list[dict[str, Any]]:
    records = client.get_version(name, version).records
    return [MessageToDict(record.body) for record in records if record.kind == "parity_receipt"]


def test_a_trained_adapter_brings_its_reference_and_gets_a_receipt(
    checking: Server, graft: Client, trained: Path
) -> None:
    pushed = graft.push_adapter(trained, name="upper", alias="stable")
    assert "reference.json" in {file.name for file in pushed.version.files}
    (receipt,) = receipts(graft, "upper")
    assert (receipt["source"], receipt["form"], receipt["reference_form"]) == ("trainer", "nf4", "nf4")
    assert 0 <= receipt["mean_abs_delta"] <= LIMIT < receipt["base_mean_abs_delta"]
    assert receipt["num_tokens"] == 15  # of a drawn row of 16
    parity = graft.generate("bee -> ", model="upper", max_tokens=8).answerer.parity
    assert (parity.source, parity.num_tokens) == ("trainer", receipt["num_tokens"])
    assert parity.mean_abs_delta == receipt["mean_abs_delta"]
    body = json.dumps({"model": "upper", "prompt": "bee -> ", "max_tokens": 4}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{checking.http}/v1/completions", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.headers["x-graft-parity"].startswith(f"trainer;mean={receipt['mean_abs_delta']:.4f};tokens=")


def test_a_reference_that_says_otherwise_is_refused_with_what_was_measured(
    graft: Client, trained: Path, tmp_path: Path
) -> None:
    """The upload is sound in itself: its hashes are those of what was sent."""
    folder = shutil.copytree(trained, tmp_path / "tampered")
    path = folder / "reference.json"
    body = json.loads(path.read_text())
    for row in body["rows"]:
        row["logprobs"] = [value - 0.5 for value in row["logprobs"]]
    path.write_text(json.dumps(body))
    with pytest.raises(Conflict, match=r"by 0\.(4|5)\d+ on average, and 0\.05 is the limit"):
        graft.push_adapter(folder, name="tampered", alias="stable")
    with pytest.raises(NotFound):
        graft.get_adapter("tampered")
    graft.push_adapter(folder, name="tampered")
    with pytest.raises(Conflict, match="on average"):
        graft.generate("bee -> ", model="tampered@1", max_tokens=1)
    found = receipts(graft, "tampered")  # what the push measured may be told of the same version, too
    assert found
    for receipt in found:
        assert receipt["drifted"] is True and receipt["mean_abs_delta"] == pytest.approx(0.5, abs=LIMIT)


def test_weights_that_were_exchanged_behind_the_reference_are_refused(
    graft: Client, trained: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained, tmp_path / "exchanged")
    path = folder / "adapter_model.safetensors"
    halved = {name: one * (0.5 if "lora_B" in name else 1) for name, one in load_bfloat16(path).items()}
    save_bfloat16(halved, path, metadata={"format": "pt"})
    with pytest.raises(Conflict, match="is not served as it was trained"):
        graft.push_adapter(folder, name="exchanged", alias="stable")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning", "multitask_prompt_tuning"])
def test_a_trained_soft_prompt_is_served_as_it_was_trained(
    graft: Client, base: Base, tmp_path: Path, method: str
) -> None:
    folder = train(base, tmp_path, method=method, packing=False, num_virtual_tokens=8, learning_rate=0.01, max_steps=20)
    pushed = graft.push_adapter(folder, name=method.replace("_", "-"), alias="stable")
    assert (pushed.version.num_virtual_tokens, pushed.version.lineage.job.partition("-")[0]) == (8, "finetune")
    (receipt,) = receipts(graft, pushed.version.adapter)
    assert (receipt["source"], receipt["reference_form"]) == ("trainer", "nf4")
    assert 0 <= receipt["mean_abs_delta"] <= LIMIT < receipt["base_mean_abs_delta"]


def test_a_head_is_compared_with_peft(graft: Client, base: Base, tmp_path: Path) -> None:
    folder = write_classifier(tmp_path / "head", base, labels=("no", "yes"), seed=3)
    graft.push_adapter(folder, name="head", alias="stable")
    (receipt,) = receipts(graft, "head")
    assert (receipt["source"], receipt["reference_form"], receipt["num_tokens"]) == ("peft", "nf4", 8)
    assert 0 <= receipt["mean_abs_delta"] <= LIMIT < receipt["base_mean_abs_delta"]
    parity = graft.classify(["a film"], model="head").answerer.parity
    assert (parity.source, parity.mean_abs_delta) == ("peft", receipt["mean_abs_delta"])
    file = folder / "adapter_model.safetensors"
    score = "base_model.model.score.weight"
    zero = {name: one * (name != score) for name, one in load_file(file).items()}
    save_file(zero, file, metadata={"format": "pt"})
    with pytest.raises(InvalidArgument, match="its head or all updates beside it are zero"):
        graft.push_adapter(folder, name="zero-head")


def test_a_soft_prompt_is_compared_with_peft_or_with_what_its_trainer_recorded(
    graft: Client, base: Base, tmp_path: Path
) -> None:
    folder = write_soft_prompt(tmp_path / "soft", base, num_tokens=20, seed=3)
    graft.push_adapter(folder, name="foreign-soft", alias="stable")
    (receipt,) = receipts(graft, "foreign-soft")
    assert (receipt["source"], receipt["reference_form"]) == ("peft", "nf4")
    assert 0 <= receipt["mean_abs_delta"] <= LIMIT < receipt["base_mean_abs_delta"]

    TrainedRecord(base=base.identity, form=ServingForm.NF4, lineage=UNKNOWN_LINEAGE).write(folder)
    (row,) = Oracle(str(base.path), "nf4").rows(folder=str(folder), num_rows=1, num_tokens=16)
    said = ReferenceRow(token_ids=row["token_ids"], num_prompt_tokens=1, logprobs=row["logprobs"])  # type: ignore[arg-type]
    Reference(form=ServingForm.NF4, rows=(said,)).write(folder)
    graft.push_adapter(folder, name="trained-soft", alias="stable")
    (receipt,) = receipts(graft, "trained-soft")
    assert receipt["source"] == "trainer" and receipt["mean_abs_delta"] <= LIMIT

    other = write_soft_prompt(tmp_path / "other", base, num_tokens=20, seed=4)
    shutil.copy(other / "adapter_model.safetensors", folder)
    with pytest.raises(Conflict, match="is not served as it was trained"):
        graft.push_adapter(folder, name="exchanged-soft", alias="stable")


def test_an_adapter_of_another_base_is_refused_with_both_digests(
    graft: Client, base: Base, trained: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained, tmp_path / "adapter")
    other = make_base(tmp_path / "other")
    TrainedRecord(base=other.identity, form=ServingForm.NF4, lineage=UNKNOWN_LINEAGE).write(folder)
    with pytest.raises(InvalidArgument) as refusal:
        graft.push_adapter(folder, name="stranger", alias="stable")
    said = str(refusal.value) + " ".join(str(each) for each in refusal.value.violations)
    assert other.identity.weights_digest in said and base.identity.weights_digest in said


def test_a_foreign_adapter_is_compared_with_peft_before_its_alias_moves(
    graft: Client, trained: Path, layers: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(trained / name, foreign / name)
    weakened(write_adapter(tmp_path / "random", layers, rank=8, seed=5), 0.3)
    patterned = with_ranks_by_pattern(shutil.copytree(tmp_path / "random", tmp_path / "patterned"))
    for name, folder in (("foreign", foreign), ("random", tmp_path / "random"), ("patterned", patterned)):
        graft.push_adapter(folder, name=name, alias="stable")
        (receipt,) = receipts(graft, name)
        assert (receipt["source"], receipt["reference_form"]) == ("peft", "nf4")
        assert 0 <= receipt["mean_abs_delta"] <= LIMIT < receipt["base_mean_abs_delta"]
        assert graft.generate("a", model=name, max_tokens=1).answerer.parity.source == "peft"


@pytest.mark.slow
def test_in_full_precision_peft_and_the_engine_agree_closely(
    layers: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    folder = weakened(write_adapter(tmp_path / "random", layers, rank=8, seed=6), 0.3)
    server = start_server(tmp_path, "--num-slots", "2", "--quantization", "fp32", "--parity", "full")
    try:
        with Client(server.grpc) as client:
            client.push_adapter(folder, name="random", alias="stable")
            (receipt,) = receipts(client, "random")
    finally:
        assert stop_server(server) == 0
    assert (receipt["source"], receipt["reference_form"]) == ("peft", "fp32")
    assert receipt["mean_abs_delta"] < 0.005 < receipt["base_mean_abs_delta"]


def with_ranks_by_pattern(folder: Path) -> Path:
    """S2: half the rank in one layer's q_proj and v_proj, and another alpha there, as a trainer's patterns say it."""
    path, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    tensors = load_file(path)
    for name in [name for name in tensors if ".layers.3." in name and ("q_proj" in name or "v_proj" in name)]:
        tensors[name] = np.ascontiguousarray(tensors[name][:4] if "lora_A" in name else tensors[name][:, :4])
    save_file(tensors, path, metadata={"format": "pt"})
    pattern = r".*\.layers\.3\..*(q_proj|v_proj)$"
    patterns = {"rank_pattern": {pattern: 4}, "alpha_pattern": {pattern: 12, r"layers\.[01]\..*": 4}}
    config.write_text(json.dumps({**json.loads(config.read_text()), **patterns}))
    return folder


def weakened(folder: Path, factor: float) -> Path:
    """The adapter with its update scaled: as strong as trained ones are."""
    path = folder / "adapter_model.safetensors"
    tensors = {name: one * np.float32(factor if "lora_B" in name else 1) for name, one in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return folder
