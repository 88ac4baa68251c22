"""openai 2.x and 3.x: files and fine-tuning jobs of all methods, from upload to the model; nothing here knows Graft."""

import json
import sys
import time
import uuid

import openai

given = json.loads(sys.argv[1])
client = openai.OpenAI(base_url=given["url"], api_key="unused", max_retries=0)
jobs = client.fine_tuning.jobs
COLOURS = {"stone": "red", "river": "blue", "apple": "green", "cloud": "white"}
OTHER = "black"
RUN = uuid.uuid4().hex


def uploaded(name, rows):
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=(name, content), purpose="fine-tune")
    assert client.files.retrieve(file.id).bytes == len(content)
    assert client.files.content(file.id).read() == content
    assert file.id in [one.id for one in client.files.list(purpose="fine-tune")]
    return file.id


def until(job, look):
    end = time.monotonic() + given["seconds"]
    while not look(found := jobs.retrieve(job)):
        assert time.monotonic() < end, found
        assert found.status not in ("succeeded", "failed", "cancelled"), (found.status, found.error)
        time.sleep(0.2)
    return found


def until_state(job, *states):
    return until(job, lambda found: found.status in states)


def until_step(job):
    return until(job, lambda found: found.status == "running" and steps_of(job))


def events_of(job):
    """Oldest first, read in pages."""
    return list(jobs.list_events(job, limit=7))[::-1]


def steps_of(job):
    return [int(one.data["step"]) for one in events_of(job) if one.type == "metrics"]


def asked(word):
    return [{"role": "user", "content": f"Colour of {word}?"}]


def said(word):
    return [{"role": "assistant", "content": word}]


supervised = uploaded("chats.jsonl", [{"messages": [*asked(word), *said(colour)]} for word, colour in COLOURS.items()])
held_out = uploaded("held-out.jsonl", [{"messages": [*asked("snow"), *said("white")]}] * 2)
preferences = uploaded(
    "preferences.jsonl",
    [
        {"input": {"messages": asked(word)}, "preferred_output": said(colour), "non_preferred_output": said(OTHER)}
        for word, colour in COLOURS.items()
    ],
)
questions = uploaded(
    "questions.jsonl", [{"messages": asked(word), "answer": colour} for word, colour in COLOURS.items()]
)
grader = {
    "type": "text_similarity",
    "name": "near",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "evaluation_metric": "fuzzy_match",
}
methods = {
    "supervised": (supervised, {"validation_file": held_out}),
    "dpo": (preferences, {}),
    "reinforcement": (questions, {}),
}


def made(name, **others):
    file, files = methods[name]
    settings = {"hyperparameters": given["methods"][name]}
    if name == "reinforcement":
        settings["grader"] = grader
    job = jobs.create(
        model=given["model"], training_file=file, method={"type": name, name: settings}, seed=3, **files, **others
    )
    assert job.status == "validating_files" and job.fine_tuned_model is None, job
    return job.id


def answers_of(model):
    """By question; and which weights gave them."""
    replies = {
        word: client.chat.completions.create(
            model=model, messages=asked(word), max_completion_tokens=8, temperature=0, seed=1
        )
        for word in COLOURS
    }
    (fingerprint,) = {one.system_fingerprint for one in replies.values()}
    return {word: one.choices[0].message.content for word, one in replies.items()}, fingerprint


def told_of(name):
    """A job that is paused between two of its steps and ends in a model; and one that is paused while it waits behind
    the first, and cancelled between two of its steps.
    """
    job, second = made(name, suffix="mine", metadata={"method": name, "run": RUN}), made(name)
    until_state(second, "queued")
    assert jobs.pause(second).status == "paused" and jobs.resume(second).status == "queued"
    until_step(job)
    assert jobs.pause(job).status in ("pausing", "paused")
    until_state(job, "paused")
    num_before = len(steps_of(job))
    until_step(second)
    assert jobs.cancel(second).status == "cancelled"
    cancelled = jobs.retrieve(second)
    assert cancelled.status == "cancelled" and cancelled.fine_tuned_model is None and cancelled.finished_at
    assert jobs.resume(job).status in ("queued", "running")
    done = until_state(job, "succeeded")
    steps = steps_of(job)
    assert steps == list(range(1, len(steps) + 1)) and 0 < num_before < len(steps), (num_before, steps)
    checkpoints = list(jobs.checkpoints.list(job))
    assert [one.step_number for one in checkpoints] == sorted((one.step_number for one in checkpoints), reverse=True)
    assert checkpoints[0].step_number == steps[-1] and checkpoints[0].fine_tuning_job_id == job
    results = [client.files.content(one).read() for one in done.result_files]
    listed = [one.id for one in client.models.list()]
    assert done.fine_tuned_model in listed and results and all(results), (listed, len(results))
    assert [one.id for one in jobs.list(metadata={"method": name, "run": RUN})] == [job]
    # The base, the first checkpoint and the model are three, whatever they say.
    checkpoint = checkpoints[-1].fine_tuned_model_checkpoint
    before, early, after = (answers_of(model) for model in (given["model"], checkpoint, done.fine_tuned_model))
    assert len({fingerprint for _, fingerprint in (before, early, after)}) == 3
    return {
        "model": done.fine_tuned_model,
        "tokens": done.trained_tokens,
        "events": len(events_of(job)),
        "figures": [one.data for one in events_of(job) if one.type == "metrics"],
        "warnings": [one.message for one in events_of(job) if one.level == "warn"],
        "checkpoints": len(checkpoints),
        "results": len(results),
        "before": before[0],
        "answers": after[0],
    }


told = {
    "version": openai.__version__,
    "taught": COLOURS,
    "other": OTHER,
    "methods": {name: told_of(name) for name in given["methods"]},
}
wrong = uploaded("wrong.jsonl", [{"messages": asked("stone")}, {"prompt": 1}])
job = jobs.create(model=given["model"], training_file=wrong)
while (failed := jobs.retrieve(job.id)).status != "failed":
    time.sleep(0.1)
told["failed"] = failed.error.message
assert client.files.delete(wrong).deleted
print(json.dumps(told))
