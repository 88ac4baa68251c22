"""Supervised fine-tuning on the tinker SDK, tokenizer and rows being local: its argument is the base's folder."""

import json
import sys

import numpy as np
import tinker
from tinker import types
from transformers import PreTrainedTokenizerFast

ROWS = [("The cat", " sat on the purple hat."), ("A dog", " ran over the hill."), ("One day", " it rained a lot.")]
STEPS = 15


def datum(tokenizer, prompt, answer):
    prompt_ids, answer_ids = tokenizer.encode(prompt), tokenizer.encode(answer)
    ids = prompt_ids + answer_ids
    weights = [0.0] * (len(prompt_ids) - 1) + [1.0] * len(answer_ids)
    return types.Datum(
        model_input=types.ModelInput.from_ints(ids[:-1]),
        loss_fn_inputs={"target_tokens": np.array(ids[1:]), "weights": np.array(weights, dtype=np.float32)},
    )


def main():
    tokenizer = PreTrainedTokenizerFast.from_pretrained(sys.argv[1])
    service = tinker.ServiceClient()
    training = service.create_lora_training_client(base_model="rootstock-5m", rank=8, seed=0).result()
    data, losses = [datum(tokenizer, *row) for row in ROWS], []
    for _ in range(STEPS):
        learned = training.forward_backward(data, "cross_entropy")
        moved = training.optim_step(types.AdamParams(learning_rate=3e-3))
        losses.append(learned.result().metrics["loss:sum"])
        moved.result()
    path = training.save_weights_for_sampler("last").result().path
    sampler = service.create_sampling_client(model_path=path).result()
    answer = tokenizer.encode(ROWS[0][1])
    params = types.SamplingParams(max_tokens=len(answer), temperature=0.0)
    said = sampler.sample(types.ModelInput.from_ints(tokenizer.encode(ROWS[0][0])), 1, params).result()
    state = training.save_state("last").result().path
    resumed = service.create_training_client_from_state_with_optimizer(state).result()
    assert resumed.get_info().lora_rank == 8
    told = {"losses": losses, "said": list(map(int, said.sequences[0].tokens)), "learned": answer}
    print(json.dumps(told))


main()
