"""`/v1/fine_tuning/jobs` as the unmodified `openai` package asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from graft.v1 import job_pb2 as pb
from tests.server.api.conftest import Server, StartServer
from tests.server.api.fine_tuning.working import Worker, reached, uploaded

GRADER = {"type": "string_check", "name": "g", "input": "{{sample.output_text}}", "reference": "x", "operation": "eq"}
DPO = b'{"input": {"messages": [{"role": "user", "content": "a"}]}, "preferred_output": [{"role": "assistant", \
"content": "b"}], "non_preferred_output": [{"role": "assistant", "content": "c"}]}\n'
REINFORCEMENT = b'{"messages": [{"role": "user", "content": "a"}], "answer": "b"}\n'


async def made(server: Server, **others: Any) -> FineTuningJob:
    file = others.pop("training_file", None) or await uploaded(server)
    return await server.openai.fine_tuning.jobs.create(model="tiny", training_file=file, **others)


async def test_a_job_from_upload_to_model(server: Server) -> None:
    jobs = server.openai.fine_tuning.jobs
    validation = await uploaded(server, name="held.jsonl")
    job = await made(server, suffix="mine", seed=7, validation_file=validation, metadata={"team": "x"})
    assert (job.status, job.object, job.seed, job.metadata) == ("validating_files", "fine_tuning.job", 7, {"team": "x"})
    assert job.method is not None and job.method.type == "supervised" and job.hyperparameters.n_epochs == "auto"
    assert job.fine_tuned_model is None and job.error is None and job.result_files == []
    worker = Worker(server)
    claim = await worker.claimed()
    resolved: dict[str, Any] = {"resolved_hyperparameters": {}}
    resolved["resolved_hyperparameters"].update({"n_epochs": 3, "batch_size": 2, "learning_rate_multiplier": 1.5})
    for step in (2, 4):
        await worker.report(step, **(resolved if step == 2 else {}))
    running = await jobs.retrieve(job.id)
    assert (running.status, running.hyperparameters.n_epochs, running.hyperparameters.batch_size) == ("running", 3, 2)
    await worker.succeed()
    done = await jobs.retrieve(job.id)
    assert (done.status, done.trained_tokens) == ("succeeded", 400) and done.finished_at is not None
    number = job.id.removeprefix("ftjob-")
    assert done.fine_tuned_model == f"ft:tiny:default:mine:{number}" and claim.job.spec.validation_file == validation
    events = [one async for one in jobs.list_events(job.id, limit=2)]
    assert events[0].message == "The job has succeeded" and events[-1].message == f"The job {job.id} was made"
    assert len({one.id for one in events}) == len(events) == 7
    assert [one.data["step"] for one in events if one.type == "metrics"] == [4, 2]  # type: ignore[index]
    points = [one async for one in jobs.checkpoints.list(job.id, limit=1)]
    assert [(one.step_number, one.metrics.train_loss) for one in points] == [(4, 1.5), (2, 1.5)]
    assert points[0].fine_tuned_model_checkpoint == f"{done.fine_tuned_model}:ckpt-step-4"


async def test_what_the_types_say_is_what_comes(server: Server) -> None:
    """Parsed strictly: openai's models take anything."""
    job = await made(server)
    worker = Worker(server)
    await worker.claimed()
    await worker.report(1)
    path = f"/v1/fine_tuning/jobs/{job.id}"
    FineTuningJob.model_validate((await server.http.get(path)).json(), strict=True)
    for one in (await server.http.get(f"{path}/events")).json()["data"]:
        FineTuningJobEvent.model_validate(one, strict=True)
    (point,) = (await server.http.get(f"{path}/checkpoints")).json()["data"]
    FineTuningJobCheckpoint.model_validate(point, strict=True)


async def test_pause_resume_and_cancel(server: Server) -> None:
    jobs = server.openai.fine_tuning.jobs
    job = await made(server)
    worker = Worker(server)
    await worker.claimed()
    assert (await jobs.pause(job.id)).status == "pausing"  # type: ignore[comparison-overlap]
    await worker.complete(release=pb.JobRelease())
    assert (await jobs.retrieve(job.id)).status == "paused"  # type: ignore[comparison-overlap]
    assert (await jobs.resume(job.id)).status == "queued"
    assert (await jobs.cancel(job.id)).status == "cancelled"
    with pytest.raises(openai.ConflictError, match="it has ended; make a new job") as caught:
        await jobs.resume(job.id)
    assert not server.openai._should_retry(caught.value.response), "it will not be otherwise"


async def test_each_method_is_asked_as_openai_asks(server: Server) -> None:
    settings = {"n_epochs": 2, "learning_rate_multiplier": 0.5, "batch_size": "auto"}
    dpo = await made(
        server,
        training_file=await uploaded(server, DPO),
        method={"type": "dpo", "dpo": {"hyperparameters": {**settings, "beta": 0.1}}},
    )
    assert dpo.method is not None and dpo.method.dpo is not None and dpo.method.dpo.hyperparameters is not None
    assert (dpo.method.dpo.hyperparameters.beta, dpo.hyperparameters.n_epochs) == (0.1, None)
    learned = await made(
        server,
        training_file=await uploaded(server, REINFORCEMENT),
        method={"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": {"eval_samples": 2}}},
    )
    assert learned.method is not None and learned.method.reinforcement is not None
    assert learned.method.reinforcement.grader.model_dump() == GRADER
    former = await made(server, hyperparameters=settings)
    assert former.hyperparameters.n_epochs == 2 and former.hyperparameters.learning_rate_multiplier == 0.5
    for job in (dpo, learned, former):
        await reached(server, job.id, "queued")


async def test_files_that_are_not_sound_fail_the_job(server: Server) -> None:
    job = await made(server, training_file=await uploaded(server, DPO), method={"type": "supervised"})
    await reached(server, job.id, "failed")
    failed = await server.openai.fine_tuning.jobs.retrieve(job.id)
    assert failed.error is not None and failed.error.param == "training_file"
    assert failed.error.code == "invalid_training_file" and "line 1: prompt is missing" in failed.error.message


async def test_everything_that_is_wrong_is_said_at_once(server: Server) -> None:
    body = {
        "model": "tiny", "training_file": "", "seed": 1.5, "suffix": "A", "metadata": {"k": 1}, "colour": "red",
        "integrations": [{"type": "wandb"}],
        "method": {
            "type": "dpo", "dpo": {"hyperparameters": {"beta": -1, "n_epochs": 0, "gamma": 1}}, "supervised": {},
        },
    }  # fmt: skip
    answer = await server.http.post("/v1/fine_tuning/jobs", json=body)
    assert answer.status_code == 400
    params = set(answer.json()["error"]["param"].split(", "))
    where = "method.dpo.hyperparameters"
    assert params == {
        "training_file", "seed", "suffix", "metadata.k", "colour", "integrations", "method.supervised",
        f"{where}.beta", f"{where}.n_epochs", f"{where}.gamma",
    }  # fmt: skip
    with pytest.raises(openai.NotFoundError) as caught:
        await server.openai.fine_tuning.jobs.create(model="nothing", training_file=await uploaded(server))
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="training_file: there is no file 'file-x'"):
        await made(server, training_file="file-x")


async def test_lists_are_filtered_and_go_on(server: Server) -> None:
    jobs = server.openai.fine_tuning.jobs
    file = await uploaded(server)
    made_ids = [
        (await made(server, training_file=file, metadata={"n": f"{n % 2}"} if n else None)).id for n in range(4)
    ][::-1]
    assert [one.id async for one in jobs.list(limit=2)] == made_ids
    assert [one.id async for one in jobs.list(metadata={"n": "1"})] == [made_ids[0], made_ids[2]]
    assert [one.id async for one in jobs.list(extra_query={"metadata": "null"})] == [made_ids[3]]
    for query in ("limit=0", "after=x", "metadata=x", "color=red"):
        assert (await server.http.get(f"/v1/fine_tuning/jobs?{query}")).status_code == 400
    assert (await server.http.get(f"/v1/fine_tuning/jobs/{made_ids[0]}/events?after=ftevent-1")).status_code == 400


async def test_a_file_is_kept_while_a_job_uses_it(server: Server) -> None:
    file = await uploaded(server)
    job = await made(server, training_file=file)
    with pytest.raises(openai.ConflictError, match=f"{job.id} uses it"):
        await server.openai.files.delete(file)
    await server.openai.fine_tuning.jobs.cancel(job.id)
    assert (await server.openai.files.delete(file)).deleted


async def test_nothing_of_another_tenant_is_shown(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "tenants.json").write_text('{"of-acme": "acme", "of-beta": "beta"}')
    server = await start_server(tenants_file=tmp_path / "tenants.json")
    acme, beta = (server.openai.with_options(api_key=f"of-{name}") for name in ("acme", "beta"))
    file = await acme.files.create(file=("a.jsonl", REINFORCEMENT), purpose="fine-tune")
    job = await acme.fine_tuning.jobs.create(model="tiny", training_file=file.id)
    theirs = beta.fine_tuning.jobs
    for call in (
        theirs.retrieve(job.id), theirs.cancel(job.id), theirs.list_events(job.id), theirs.checkpoints.list(job.id),
    ):  # fmt: skip
        with pytest.raises(openai.NotFoundError):
            await call
    assert [one async for one in theirs.list()] == []
    with pytest.raises(openai.BadRequestError, match="there is no file"):
        await theirs.create(model="tiny", training_file=file.id)
