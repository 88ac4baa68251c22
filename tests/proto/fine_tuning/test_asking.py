"""`graft jobs create` refuses before anything is sent, and of a job that is refused no upload is kept."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import pytest

from graft.cli.failure import UserError
from graft.cli.fine_tuning.asking import add_create_arguments, create
from graft.client.fine_tuning.job_operation import spec
from graft.v1 import file_pb2, job_pb2

NOT_UTF8 = os.fsdecode(b"fable\xff")


class Files:
    """A client that says what becomes of uploads; `fails` is raised by the making of a job."""

    def __init__(self, fails: Exception | None = None) -> None:
        self._fails = fails
        self.num_uploaded = 0
        self.deleted: list[str] = []

    def upload_file(self, path: str) -> file_pb2.File:
        self.num_uploaded += 1
        return file_pb2.File(id=f"file-{self.num_uploaded}")

    def delete_file(self, file: str) -> None:
        self.deleted.append(file)

    def create_job(self, training_file: str, **options: Any) -> job_pb2.Job:
        if self._fails is not None:
            raise self._fails
        return job_pb2.Job(id="ftjob-1", spec=spec(options.pop("model"), training_file, options))  # type: ignore[arg-type]


def asked(rows: Path, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_create_arguments(parser)
    return parser.parse_args([str(rows), "--model", "tiny", *arguments])


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--seed", str(10**20)), "seed .*100000000000000000000"),
        (("--priority", str(10**10)), "priority .*10000000000"),
        (("--n-evals", "3000000000"), "n_evals .*3000000000"),
        (("--set", f"n_epochs=1{'0' * 400}"), "--set n_epochs"),
        (("--set", "beta=nan"), "--set beta=nan"),
        (("--set", "beta=-inf"), "--set beta=-inf"),
        (("--set", "beta=1e999"), "--set beta=1e999"),
        (("--suffix", NOT_UTF8), "suffix .*UTF-8"),
        (("--metadata", f"team={NOT_UTF8}"), "metadata .*UTF-8"),
        (("--model", NOT_UTF8), "model .*UTF-8"),
        (("--seed", str(10**20), "--set", "beta=nan"), "--set beta=nan.*; seed"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is(rows: Path, arguments: tuple[str, ...], said: str) -> None:
    files = Files()
    with pytest.raises(UserError, match=said):
        create(files, asked(rows, *arguments))  # type: ignore[arg-type]
    assert files.num_uploaded == 0


@pytest.mark.parametrize("value", ["NaN", "1" + "0" * 400, '"\\ud800"', "[" * 2000 + "]" * 2000])
def test_a_grader_that_cannot_be_sent_is_refused_before_anything_is(rows: Path, value: str) -> None:
    grader, files = rows.with_name("grader.json"), Files()
    grader.write_text(f'{{"type": "string_check", "name": {value}}}', encoding="utf-8")
    with pytest.raises(UserError, match="grader"):
        create(files, asked(rows, "--method", "reinforcement", "--grader", str(grader)))  # type: ignore[arg-type]
    assert files.num_uploaded == 0


def test_what_fails_leaves_no_upload(rows: Path) -> None:
    held = rows.with_name("held.jsonl")
    held.write_text("{}\n{}\n", encoding="utf-8")
    files = Files(fails=RuntimeError("nobody foresaw it"))
    with pytest.raises(RuntimeError):
        create(files, asked(rows, "--validation", str(held)))  # type: ignore[arg-type]
    assert sorted(files.deleted) == ["file-1", "file-2"]


def test_numbers_and_words_are_sent_as_they_are(rows: Path) -> None:
    files = Files()
    job = create(files, asked(rows, "--set", "n_epochs=3", "--set", "beta=0.5", "--set", "batch_size=auto"))  # type: ignore[arg-type]
    assert json.loads(json.dumps(dict(job.spec.hyperparameters))) == {"n_epochs": 3, "beta": 0.5, "batch_size": "auto"}
    assert not files.deleted
