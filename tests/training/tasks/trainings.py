"""Small trainings on tasks, of rows that can be learned by heart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graft.adapters.base.base import Base
from graft.training.tasks.job import TrainTask
from graft.training.tasks.settings import TaskSettings
from tests.training.tasks.bases import write_base, write_rows

FILMS = [
    {"text": f"the film was {word} and {other}", "label": label}
    for word, other, label in (("good", "fine", "pos"), ("fine", "very good", "pos"), ("bad", "awful", "neg"),
                               ("awful", "very bad", "neg"), ("good", "good", "pos"), ("bad", "bad", "neg"))
]  # fmt: skip
PAIRS = [{"premise": row["text"], "hypothesis": "it was", "label": row["label"]} for row in FILMS]
TAGGED = [
    {"tokens": ["Anna", "lives", "in", "Paris"], "tags": ["B-PER", "O", "O", "B-LOC"]},
    {"tokens": ["she", "was", "Bob"], "tags": ["O", "O", "B-PER"]},
]


def question(context: str, asked: str, answer: str) -> dict[str, Any]:
    return {
        "context": context,
        "question": asked,
        "answers": {"text": [answer], "answer_start": [context.index(answer)]},
    }


ASKED = [question("Anna lives in Paris", "where is Anna", "Paris"), question("Bob was in Rome", "who was", "Bob")]
CHOICES = [
    {"prompt": "the film", "choices": ["was good", "Rome the in"], "label": 0},
    {"prompt": "she lives", "choices": ["very who", "in Paris"], "label": 1},
]
WRITTEN = [{"source": "good film", "target": "Anna"}, {"source": "bad film", "target": "Bob"}]


def job(folder: Path, kind: str, rows: list[dict[str, Any]], base: Base | None = None, **settings: Any) -> TrainTask:
    data = write_rows(folder / "rows.jsonl", rows)
    checked = {"per_device_train_batch_size": 4, "max_length": 48, "learning_rate": 3e-3, "validation": str(data)}
    return TrainTask(
        base=base or write_base(kind, folder / "base"),
        data=data,
        settings=TaskSettings.from_mapping({**checked, **settings}),
        work=folder / "run",
    )
