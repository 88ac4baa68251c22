"""GRPO on the tinker SDK: every round samples from the weights of the round before. Argument: the base's folder."""

import json
import sys

import numpy as np
import tinker
from tinker import types
from transformers import PreTrainedTokenizerFast

PROMPTS = ("The", "A little", "One day", "She said")
ROUNDS, ANSWERS, LENGTH = 6, 16, 12


def share_of_e(text):
    return text.count("e") / max(1, len(text))


def main():
    tokenizer = PreTrainedTokenizerFast.from_pretrained(sys.argv[1])
    service = tinker.ServiceClient()
    training = service.create_lora_training_client(base_model="rootstock-5m", rank=8, seed=0).result()
    told = {"rewards": [], "mismatch": []}
    for number in range(ROUNDS):
        sampler = training.save_weights_and_get_sampling_client().result()
        params = types.SamplingParams(max_tokens=LENGTH, seed=number)
        asked = [tokenizer.encode(one) for one in PROMPTS]
        waiting = [sampler.sample(types.ModelInput.from_ints(ids), ANSWERS, params) for ids in asked]
        data, served, rewards = [], [], []
        for prompt_ids, future in zip(asked, waiting, strict=True):
            answers = future.result().sequences
            own = [share_of_e(tokenizer.decode(list(one.tokens))) for one in answers]
            advantages = (np.array(own) - np.mean(own)) / (np.std(own) + 1e-4)
            rewards += own
            for one, advantage in zip(answers, advantages, strict=True):
                ids, before = prompt_ids + list(map(int, one.tokens)), [0.0] * (len(prompt_ids) - 1)
                logprobs = before + list(map(float, one.logprobs))
                inputs = {
                    "target_tokens": np.array(ids[1:]),
                    "logprobs": np.array(logprobs, dtype=np.float32),
                    "advantages": np.array(before + [advantage] * len(one.tokens), dtype=np.float32),
                }
                data.append(types.Datum(types.ModelInput.from_ints(ids[:-1]), inputs))
                served.append((len(before), logprobs))
        learned = training.forward_backward(data, "ppo", {"clip_low_threshold": 0.8, "clip_high_threshold": 1.28})
        moved = training.optim_step(types.AdamParams(learning_rate=3e-3))
        outputs = learned.result().loss_fn_outputs
        moved.result()
        apart = [
            np.abs(np.array(one["logprobs"].data)[start:] - logprobs[start:])
            for one, (start, logprobs) in zip(outputs, served, strict=True)
        ]
        told["mismatch"].append(float(np.concatenate(apart).mean()))
        told["rewards"].append(float(np.mean(rewards)))
    service.close("success").result()
    print(json.dumps(told))


main()
