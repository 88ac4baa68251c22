"""openai 2.x and 3.x: files and fine-tuning jobs of all methods, from upload to the model; nothing here knows Graft."""

import json
import sys
import time

import openai

given = json.loads(sys.argv[1])
client = openai.OpenAI(base_url=given["url"], api_key="unused", max_retries=0)
jobs = client.fine_tuning.jobs
MODEL = given["model"]


def uploaded(name, rows):
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=(name, content), purpose="fine-tune")
    assert client.files.retrieve(file.id).bytes == len(content)
    assert client.files.content(file.id).read() == content
    assert file.id in [one.id for one in client.files.list(purpose="fine-tune")]
    return file.id


def until(job, *states):
    end = time.monotonic() + given["seconds"]
    while (found := jobs.retrieve(job)).status not in states:
        assert time.monotonic() < end, found
        assert found.status not in ("failed", "cancelled"), found.error
        time.sleep(0.2)
    return found


chat = [{"role": "user", "content": "a"}]
answer = [{"role": "assistant", "content": "b"}]
supervised = uploaded("chats.jsonl", [{"messages": [*chat, *answer]}] * 4)
held_out = uploaded("held-out.jsonl", [{"messages": [{"role": "user", "content": "c"}, *answer]}] * 2)
preferences = uploaded(
    "preferences.jsonl",
    [
        {
            "input": {"messages": chat},
            "preferred_output": answer,
            "non_preferred_output": [{"role": "assistant", "content": "c"}],
        }
    ]
    * 4,
)
questions = uploaded("questions.jsonl", [{"messages": chat, "answer": "b"}] * 4)
few = {"n_epochs": 1, "batch_size": 2}
grader = {
    "type": "string_check",
    "name": "right",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "ilike",
}
methods = {
    "supervised": (supervised, {"validation_file": held_out}, {"hyperparameters": few}),
    "dpo": (preferences, {}, {"hyperparameters": {**few, "beta": 0.1}}),
    "reinforcement": (questions, {}, {"grader": grader, "hyperparameters": few}),
}
told = {"version": openai.__version__, "methods": {}}
for name in given["methods"]:
    file, others, settings = methods[name]
    job = jobs.create(
        model=MODEL,
        training_file=file,
        method={"type": name, name: settings},
        suffix="mine",
        seed=3,
        metadata={"method": name},
        **others,
    )
    assert job.status == "validating_files" and job.fine_tuned_model is None, job
    done = until(job.id, "succeeded")
    events = [one.message for one in jobs.list_events(job.id, limit=2)]
    checkpoints = list(jobs.checkpoints.list(job.id))
    results = [client.files.content(one).read() for one in done.result_files]
    models = [done.fine_tuned_model, *(one.fine_tuned_model_checkpoint for one in checkpoints)]
    listed = [one.id for one in client.models.list()]
    replies = [
        client.chat.completions.create(model=one, messages=chat, max_completion_tokens=2).choices[0].finish_reason
        for one in models
    ]
    assert done.fine_tuned_model in listed and all(results), (listed, len(results))
    assert [one.id for one in jobs.list(metadata={"method": name})] == [job.id]
    told["methods"][name] = {
        "model": done.fine_tuned_model,
        "tokens": done.trained_tokens,
        "events": len(events),
        "checkpoints": len(checkpoints),
        "results": len(results),
        "replies": len(replies),
    }
# Waits behind nothing, and is paused, resumed and cancelled all the same.
job = jobs.create(model=MODEL, training_file=supervised, method={"type": "supervised", "supervised": {}})
until(job.id, "queued", "running")
assert jobs.pause(job.id).status in ("pausing", "paused")
until(job.id, "paused")
assert jobs.resume(job.id).status in ("queued", "running")
assert jobs.cancel(job.id).status == "cancelled"
wrong = uploaded("wrong.jsonl", [{"messages": chat}, {"prompt": 1}])
job = jobs.create(model=MODEL, training_file=wrong)
while (failed := jobs.retrieve(job.id)).status != "failed":
    time.sleep(0.1)
told["failed"] = failed.error.message
assert client.files.delete(wrong).deleted
print(json.dumps(told))
