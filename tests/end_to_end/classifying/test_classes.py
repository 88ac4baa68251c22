"""Trained heads behind both fronts: the classes are transformers' and peft's, whoever asks for what beside them."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from graft.adapters.base.base import Base
from graft.cli.main import main
from graft.client import Client, InvalidArgument
from graft.server.engine.tokenizer.tokenizer import Tokenizer
from tests.running import Server
from tests.server.engine.making import write_adapter, write_classifier

WORDS = (
    ("good", "fine", 1),
    ("fine", "very good", 1),
    ("bad", "awful", 0),
    ("awful", "very bad", 0),
    ("good", "good", 1),
)
TEXTS = [f"the film was {one} and {other}" for one, other, _ in WORDS]
NAMES = (("neg", "pos"), ("down", "up"))


@pytest.fixture(scope="module")
def trained(base: Base, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What `graft finetune --task` makes of the shipped base, as NF4; and a version of it that says the contrary."""
    root = tmp_path_factory.mktemp("trained")
    rows = [{"text": text, "label": NAMES[0][word[2]]} for text, word in zip(TEXTS, WORDS, strict=True)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--data", str(root / "rows.jsonl"), "--base", str(base.path), "--name", "films"]
    flags += ["--output", str(root / "out"), "--max-steps", "6", "--learning-rate", "1e-2", "--max-length", "48"]
    assert main(["finetune", "--task", "text-classification", "--method", "lora", *flags]) == 0
    other = shutil.copytree(root / "out/adapter", root / "other")
    tensors = load_file(other / "adapter_model.safetensors")
    tensors["base_model.model.score.weight"] *= -1
    save_file(tensors, other / "adapter_model.safetensors", metadata={"format": "pt"})
    task = json.loads((other / "task.json").read_text())
    (other / "task.json").write_text(json.dumps({**task, "labels": NAMES[1]}))
    return [root / "out/adapter", other]


@pytest.fixture(scope="module")
def films(client: Client, trained: list[Path]) -> str:
    for number, folder in enumerate(trained, 1):
        pushed = client.push_adapter(folder, name="films", alias="stable" if number == 1 else None)
        assert (pushed.version.number, pushed.version.num_labels) == (number, 2)
        assert "task.json" in {file.name for file in pushed.version.files}
    return "films"


def probabilities(base: Base, folder: Path, texts: list[str]) -> list[list[float]]:
    """The oracle, on the same NF4 base."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, BitsAndBytesConfig

    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    plain = AutoModelForSequenceClassification.from_pretrained(
        base.path, num_labels=2, dtype=torch.bfloat16, quantization_config=nf4, pad_token_id=0
    )
    model, tokenizer = PeftModel.from_pretrained(plain, folder).eval(), Tokenizer.from_folder(base.path)
    with torch.no_grad():
        rows = [model(torch.tensor([tokenizer.encode(text)])).logits[0].float() for text in texts]
    return [row.softmax(-1).tolist() for row in rows]


def posted(server: Server, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    request = urllib.request.Request(
        f"{server.http}/v1/classify", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply), dict(reply.headers)


def refused(server: Server, body: dict[str, Any]) -> str:
    with pytest.raises(urllib.error.HTTPError) as caught:
        posted(server, body)
    error = json.load(caught.value)["error"]
    assert caught.value.code == 400 and "\n" not in error["message"]
    return str(error["message"])


def test_classes_are_transformers_and_pefts(
    server: Server, client: Client, films: str, trained: list[Path], base: Base
) -> None:
    for number, (folder, names) in enumerate(zip(trained, NAMES, strict=True), 1):
        right = probabilities(base, folder, TEXTS)
        reply = client.classify(TEXTS, model=f"{films}@{number}")
        assert reply.answerer.version_number == number and tuple(reply.labels) == names
        found = np.array([list(one.probs) for one in reply.classifications])
        assert np.abs(found - right).max() <= 0.03 and np.abs(found - right).mean() <= 0.01
        assert [one.label for one in reply.classifications] == [names[row.index(max(row))] for row in right]
        body, headers = posted(server, {"model": f"{films}@{number}", "input": TEXTS})
        assert (
            headers["x-graft-adapter"] == f"films@{number}"
            and headers["x-graft-version"] == reply.answerer.version_digest
        )
        assert (body["object"], body["model"], body["id"][:9]) == ("list", f"films@{number}", "classify-")
        assert [one["index"] for one in body["data"]] == list(range(len(TEXTS)))
        for one, said in zip(body["data"], reply.classifications, strict=True):
            assert (one["label"], one["num_classes"]) == (said.label, 2)
            assert one["probs"] == pytest.approx(list(said.probs), abs=0.02)
        usage = body["usage"]
        assert usage["prompt_tokens"] == usage["total_tokens"] == reply.usage.prompt_tokens
        assert (usage["completion_tokens"], reply.usage.completion_tokens) == (0, 0)


def test_pairs_ids_and_long_texts(server: Server, client: Client, films: str) -> None:
    """A pair is one text of two lines, as it was trained on; long ones are cut at the end, where that is asked for."""
    text, other = TEXTS[0], "it was"
    ids = list(client.tokenize(f"{text}\n{other}").token_ids)
    asked = [f"{text}\n{other}", {"text": text, "text_pair": other}, ids]
    found = [one["probs"] for one in posted(server, {"model": films, "input": asked})[0]["data"]]
    over_grpc = client.classify([asked[0], (text, other), ids], model=films).classifications
    for probs in [*found, *(list(one.probs) for one in over_grpc)]:
        assert probs == pytest.approx(found[0], abs=0.02)
    long = " ".join(TEXTS * 60)
    assert "the context holds" in refused(server, {"model": films, "input": long})
    with pytest.raises(InvalidArgument, match="the context holds"):
        client.classify([long], model=films)
    body, _ = posted(server, {"model": films, "input": long, "truncate_prompt_tokens": 40})
    assert body["usage"]["prompt_tokens"] == 40
    whole = client.tokenize(TEXTS[0]).token_ids
    begun = client.classify([TEXTS[0]], model=films, truncate_prompt_tokens=len(whole) - 3).classifications[0]
    assert list(begun.probs) == pytest.approx(
        list(client.classify([list(whole[:-3])], model=films).classifications[0].probs), abs=0.02
    )
    logits = posted(server, {"model": films, "input": text, "use_activation": False})[0]["data"][0]["probs"]
    powers = np.exp(np.array(logits) - max(logits))
    single = posted(server, {"model": films, "input": text})[0]["data"][0]["probs"]
    assert single == pytest.approx(list(powers / powers.sum()), abs=0.02)


def test_numbers_and_several_labels(server: Server, client: Client, base: Base, tmp_path: Path) -> None:
    several = {"problem_type": "multi_label_classification"}
    write_classifier(tmp_path / "several", base, labels=("a", "b", "c"), seed=1, **several)
    write_classifier(tmp_path / "number", base, num_labels=1, seed=2)
    for name in ("several", "number"):
        client.push_adapter(tmp_path / name, name=f"{name}-head", alias="stable", allow_other_quantization=True)
    one = client.classify(TEXTS[:1], model="several-head").classifications[0]
    assert list(one.probs) == pytest.approx(list(1 / (1 + np.exp(-np.array(one.outputs)))))
    assert one.label == "abc"[int(np.argmax(one.outputs))]
    reply = client.classify(TEXTS[:1], model="number-head")
    (said,) = reply.classifications
    assert (said.label, list(said.probs), list(reply.labels), len(said.outputs)) == ("", [], [], 1)
    (row,) = posted(server, {"model": "number-head", "input": TEXTS[0]})[0]["data"]
    assert (row["label"], row["num_classes"]) == (None, 1)
    assert row["probs"] == pytest.approx(list(said.outputs), abs=0.1)


def test_a_training_pushes_what_it_made(server: Server, client: Client, base: Base, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("good film\t1\nbad film\t0\n")
    flags = [
        "--data",
        str(tmp_path / "rows.tsv"),
        "--base",
        str(base.path),
        "--name",
        "pushed-films",
        "--max-steps",
        "1",
    ]
    flags += ["--output", str(tmp_path / "out"), "--push", server.grpc, "--alias", "stable"]
    assert main(["finetune", "--task", "text-classification", *flags]) == 0
    assert list(client.classify(["good film"], model="pushed-films").labels) == ["0", "1"]


def test_who_gives_no_classes_and_who_gives_no_text(
    server: Server, client: Client, films: str, two_versions: str
) -> None:
    assert "fable@1 has no head" in refused(server, {"model": two_versions, "input": "a"})
    assert "the base has no head" in refused(server, {"model": "rootstock-5m", "input": "a"})
    with pytest.raises(InvalidArgument, match="films@1 brings a head of 2 outputs, and gives classes, no text"):
        client.generate("a", model=films)
    with pytest.raises(InvalidArgument, match="ask /v1/classify or gRPC's Classify"):
        client.score("a", ["b"], model=films)
    request = urllib.request.Request(
        f"{server.http}/v1/chat/completions",
        json.dumps({"model": films, "messages": [{"role": "user", "content": "a"}]}).encode(),
        {"content-type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert "gives classes, no text" in json.load(caught.value)["error"]["message"]
    wrong = {"input": ["a", 3, ""], "truncate_prompt_tokens": 0, "messages": [], "temperature": 1}
    message = refused(server, wrong)
    for part in (
        "model: is missing",
        "input[1]: is 3",
        "input[2]: is empty",
        "truncate_prompt_tokens: is 0",
        "temperature",
    ):
        assert part in message


def test_a_swap_under_load_gives_each_answer_to_its_own_version(client: Client, films: str, two_versions: str) -> None:
    """Classes of both versions beside chats in one batch, while `stable` moves: labels and probabilities fit."""
    alone = {number: client.classify(TEXTS, model=f"{films}@{number}") for number in (1, 2)}
    right = {number: np.array([list(one.probs) for one in reply.classifications]) for number, reply in alone.items()}
    text = client.generate("Once upon", model=two_versions, max_tokens=8).text
    seen, wrong, over = Counter[int](), list[str](), threading.Event()

    def ask() -> None:
        while not over.is_set():
            reply = client.classify(TEXTS, model=films)
            number, found = reply.answerer.version_number, np.array([list(one.probs) for one in reply.classifications])
            seen[number] += 1
            if tuple(reply.labels) != NAMES[number - 1] or np.abs(found - right[number]).max() > 0.05:
                wrong.append(f"{number}: {list(reply.labels)} {found}")

    def talk() -> None:
        while not over.is_set():
            if client.generate("Once upon", model=two_versions, max_tokens=8).text != text:
                wrong.append("another text")

    threads = [threading.Thread(target=one) for one in (ask, ask, talk)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(6):
            client.set_alias(films, "stable", alone[2 - turn % 2].answerer.version_digest)
            before = sum(seen.values())
            while sum(seen.values()) < before + 4 and not wrong and all(thread.is_alive() for thread in threads):
                over.wait(0.01)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not wrong and set(seen) == {1, 2}


@pytest.mark.parametrize(
    "change, field, said",
    [
        ({"labels": ["a", "b", "c"]}, "task.json:labels", "the head is for another number: 2"),
        ({"problem_type": "regression"}, "task.json:problem_type", "has one output; the head has 2"),
        ({"settings": {"task": "token-classification"}}, "task.json:settings.task", "text-classification are served"),
    ],
)
def test_a_record_that_is_another_heads_is_refused(
    client: Client, base: Base, tmp_path: Path, change: dict[str, Any], field: str, said: str
) -> None:
    folder = write_classifier(tmp_path / "head", base, labels=("a", "b"), seed=1)
    (folder / "task.json").write_text(json.dumps({"labels": ["a", "b"], **change}))
    with pytest.raises(InvalidArgument) as caught:
        client.push_adapter(folder, name="refused", allow_other_quantization=True)
    assert field in str(caught.value) and said in str(caught.value)


def test_a_stray_record_beside_a_texts_adapter_is_left_alone(
    client: Client, layers: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "plain", layers, rank=4, seed=1)
    (folder / "task.json").write_text("no JSON at all")
    pushed = client.push_adapter(folder, name="plain", alias="stable")
    assert "task.json" not in {file.name for file in pushed.version.files} and pushed.version.num_labels == 0
    assert client.generate("a", model="plain", max_tokens=2).usage.completion_tokens > 0


def test_the_command(server: Server, films: str, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--server", server.grpc]
    assert main(["classify", TEXTS[0], TEXTS[2], "--model", f"{films}@2", *at]) == 0
    told = capsys.readouterr().out
    assert "LABEL" in told and "up" in told and "down" in told
    assert main(["classify", TEXTS[0], "--pair", "it was", "--model", films, "--output", "json", *at]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == ["neg", "pos"]
