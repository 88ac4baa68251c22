"""lm-eval: log-likelihoods of options, and generation, over local-completions and local-chat-completions."""

import json
import sys
from importlib.metadata import version

from lm_eval.api.instance import Instance
from lm_eval.models.api_models import JsonChatStr
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

given = json.loads(sys.argv[1])
model = LocalCompletionsAPI(
    base_url=f"{given['url']}/completions",
    model=given["model"],
    tokenizer=given["tokenizer"],
    tokenizer_backend="huggingface",
    max_length=1024,
    num_concurrent=4 if "folder_of_tasks" in given else 2,
    max_retries=1,
    batch_size=2,
)


def requests(kind, pairs):
    return [
        Instance(request_type=kind, doc={}, arguments=tuple(pair), idx=index, metadata=("t", index, 1))
        for index, pair in enumerate(pairs)
    ]


scores = model.loglikelihood(requests("loglikelihood", given["pairs"]))
if "folder_of_tasks" in given:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=given["folder_of_tasks"], include_defaults=False)
    found = simple_evaluate(
        model=model, tasks=given["tasks"], task_manager=manager, limit=given["limit"], bootstrap_iters=0, num_fewshot=0
    )
    print(json.dumps({"scores": scores, "results": found["results"]}))
    sys.exit()
settings = {"until": ["\n"], "max_gen_toks": 12, "temperature": 0, "do_sample": False}
texts = model.generate_until(requests("generate_until", [(given["text"], settings)]))
chat = LocalChatCompletion(
    base_url=f"{given['url']}/chat/completions", model=given["model"], num_concurrent=1, max_retries=1
)
turns = json.dumps(given["messages"])
answers = chat.generate_until(requests("generate_until", [(JsonChatStr(turns), settings)]))
print(json.dumps({"version": version("lm_eval"), "scores": scores, "texts": texts, "answers": answers}))
