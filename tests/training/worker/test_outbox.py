"""Reports, and the lines that they are made of, behind a stop in the middle of anything."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from graft.training.worker.supervising.outbox import FILE, Outbox
from graft.training.worker.tell import Tell, read_told
from graft.v1 import job_pb2 as pb


def outbox(folder: Path) -> Outbox:
    return Outbox(folder, job="ftjob-1", fence=2)


def report(step: int) -> pb.ReportJobRequest:
    return pb.ReportJobRequest(events=[pb.JobEvent(message=f"step {step}")])


def put(box: Outbox, step: int) -> None:
    box.put(report(step), told_end=10 * step, step=step, checkpoint_step=0)


def sent(box: Outbox) -> list[tuple[int, str]]:
    """All that is waiting, answered in order."""
    found = []
    while (first := box.first()) is not None:
        assert (first.job, first.fence) == ("ftjob-1", 2)
        found.append((first.number, first.events[0].message))
        box.answered(first.number)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_every_report_is_sent_in_order_whenever_the_worker_ends(tmp_path: Path, seed: int) -> None:
    """What was sent and not answered is sent again under its number, by which the server knows it."""
    chance, received, step = random.Random(seed), dict[int, str](), 0
    box = outbox(tmp_path)
    while step < 12:
        match chance.choice(["put", "send", "answer", "end"]):
            case "put":
                put(box, step := step + 1)
            case "send" if (first := box.first()) is not None:
                received.setdefault(first.number, first.events[0].message)
            case "answer" if (first := box.first()) is not None:
                received.setdefault(first.number, first.events[0].message)
                box.answered(first.number)
            case "end":
                box = outbox(tmp_path)
                assert (box.step, box.told_end) == (step, 10 * step)
    received |= dict(sent(outbox(tmp_path)))
    assert received == {number: f"step {number}" for number in range(1, step + 1)}


def test_a_line_that_was_cut_off_is_nobodys(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    put(box, 1)
    put(box, 2)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[:-5])
    box = outbox(tmp_path)
    assert box.told_end == 10  # so that the second is read again where it was told
    put(box, 2)
    assert sent(outbox(tmp_path)) == [(1, "step 1"), (2, "step 2")]


def test_what_was_told_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "told.jsonl"
    tell = Tell(path=path)
    tell.event("begun", data={"loss": float("nan"), "rows": 3})
    (first,) = read_told(path, 0)
    assert first.line["data"] == {"rows": 3}
    with path.open("ab") as file:
        file.write(b'{"kind": "metr')  # killed in the middle
    assert list(read_told(path, first.end)) == []
    tell.metrics(1, {"train_loss": 0.5}, message="Step 1")
    (second,) = read_told(path, first.end)
    assert second.line["data"] == {"step": 1, "train_loss": 0.5}
    assert list(read_told(path, second.end)) == []
