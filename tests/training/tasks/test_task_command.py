"""``graft finetune --task``: what it says and writes, and which heads a server takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graft.adapters.compatibility import Limits, incompatibilities
from graft.adapters.folder.manifest import read_manifest
from graft.adapters.form import ServingForm
from graft.cli.main import main
from tests.training.tasks.bases import write_base
from tests.training.tasks.trainings import ASKED, FILMS, TAGGED, job


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_base("bert", tmp_path / "base")
    data, output = tmp_path / "rows.tsv", tmp_path / "out"
    data.write_text("".join(f"{row['text']}\t{int(row['label'] == 'pos')}\n" for row in FILMS))
    named = ["--base", str(base.path), "--data", str(data), "--name", "n", "--output", str(output)]
    options = ["--max-steps", "30", "--learning-rate", "3e-3", "--validation", str(data), "--max-length", "32"]
    assert main(["finetune", *named, "--task", "text-classification", *options]) == 0
    told = capsys.readouterr().out
    way = "text-classification by full on base (encoder): no server takes it; graft evaluate heads measures it"
    assert told.startswith(way)
    assert f"model in {output / 'model'}" in told and "accuracy 1.0000" in told and "matthews_correlation" in told
    page = (output / "report.html").read_text()
    assert "graft evaluate heads" in page and "graft adapters push" not in page, "a server takes no encoder"
    config = tmp_path / "settings.json"
    config.write_text(json.dumps({"task": "text-classification", "data": str(data), "max_steps": 1}))
    again = ["--base", str(base.path), "--name", "n", "--output", str(tmp_path / "by-file"), "--config", str(config)]
    assert main(["finetune", *again]) == 0 and (tmp_path / "by-file/model/task.json").exists()
    capsys.readouterr()
    (tmp_path / "one.tsv").write_text("it was good\t1\n")  # no more than one class: it is only measured
    assert main(["evaluate", "heads", "--model", str(output / "model"), "--data", str(tmp_path / "one.tsv")]) == 0
    assert "accuracy 1.0000" in capsys.readouterr().out
    for flags, wrong in (
        (["--task", "text-classification", "--packing"], "'packing' has no effect with --task"),
        (["--doc-stride", "4"], "'doc_stride' is for --task"),
        (["--task", "text-classification", "--push", "here:1"], "text-classification by full on the encoder base"),
        (["--task", "sorting"], "'task' has the value 'sorting'"),
    ):
        capsys.readouterr()
        assert main(["finetune", *named[:-1], str(tmp_path / "other"), *flags]) == 2
        error = capsys.readouterr().err
        assert wrong in error and "Traceback" not in error
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "kind, task, rows, wrong",
    [
        (
            "llama",
            "text-classification",
            FILMS,
            {1000: None, 0: "heads are served by engines on CPUs", 1: "has 2 outputs; from 1 to 1 are served"},
        ),
        ("llama", "token-classification", TAGGED, {1000: "'TOKEN_CLS' tags tokens"}),
        pytest.param(
            "llama", "question-answering", ASKED, {1000: "of whole modules only a head"}, marks=pytest.mark.slow
        ),
        pytest.param(
            "bert", "text-classification", FILMS, {1000: "of whole modules only a head"}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_server_takes_a_head_or_says_why_not(
    tmp_path: Path, kind: str, task: str, rows: list[dict[str, Any]], wrong: dict[int, str | None]
) -> None:
    """By how many outputs an engine computes."""
    settings = {
        "method": "lora",
        "max_steps": 1,
        "load_in_4bit": False,
        "validation": None,
        "task": task,
        "doc_stride": 4,
    }
    training = job(tmp_path, kind, rows, **settings)
    manifest = read_manifest(training.execute())
    for max_labels, expected in wrong.items():
        reasons = incompatibilities(
            manifest,
            training.base,
            Limits(max_rank=64, max_bytes=1 << 30, max_virtual_tokens=0, max_labels=max_labels),
            declared_base=training.base.identity,
            form=ServingForm.BF16,
            serving_form=ServingForm.BF16,
            allow_noop=True,
        )
        of_head = [str(one) for one in reasons if "linear module" not in one.problem]
        assert len(of_head) == (expected is not None) and (expected is None or expected in of_head[0]), reasons
        assert all("\n" not in str(one) for one in reasons)
    page = (training.work / "report.html").read_text()
    assert ("graft adapters push" in page and "graft classify" in page) == (None in wrong.values())
    assert (manifest.num_labels == 2) == ("task.json" in {file.name for file in manifest.files})
    assert manifest.num_labels == (2 if task == "text-classification" else 0)
