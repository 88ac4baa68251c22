"""`python -m graft.server.parity.oracle <base> <form> [threads]`: what an adapter says as peft computes it.

A process of its own, so that neither torch's memory nor its threads weigh on serving. One JSON object per line comes
in, `{"folder": …, "num_rows": …, "num_tokens": …}`, and one goes out, `{"rows": [{"token_ids": […], "logprobs": […]},
…]}` or `{"error": …}`. The tokens are drawn from the adapted model itself, always in the same way; the natural
logarithms are those of every token of a row but its first. With a number of threads the base is never whole in memory
(see `layers`): `{"folder": …, "rows": [[…], …]}` comes in with the tokens, `{"progress": share}` goes out every second
before the answer, and `{"unmeasurable": …}` where the base is none that can be read so. The process ends with its
standard input, hence with the server.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.adapters.folder.head import num_labels_in
from graft.adapters.folder.soft_prompt import virtual_tokens_in
from graft.server.parity.headed import head_rows, without_head
from graft.server.parity.soft_caps import attention_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NICENESS = 10
_PROGRESS_SECONDS = 1.0


def main(base: str, form: str, num_threads: str = "") -> int:
    """Answer until the input ends."""
    os.nice(_NICENESS)
    # Libraries print as they like: what they print must not get among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()

    def answer(said: Mapping[str, object]) -> None:
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    def make() -> Any:
        from graft.server.engine.linear_cpu.products import multiply_in_float32

        multiply_in_float32()
        return _layered(base, form, int(num_threads), answer) if num_threads else _Oracle(base, form)

    oracle: Any = None
    with contextlib.suppress(Exception):  # whoever asks is told why it does not load
        oracle = make()
    while True:
        request = json.loads(requests.get())
        try:
            oracle = oracle or make()
            answer({"rows": oracle.rows(**request)})
        except Exception as error:
            oracle, kind = None, "unmeasurable" if isinstance(error, Unmeasurable) else "error"
            answer({kind: str(error)[:1000] or type(error).__name__})


class Unmeasurable(Exception):
    """A base that cannot be read module by module, whatever the adapter is: the message says why."""


Answer = Callable[[Mapping[str, object]], None]


def _layered(base: str, form: str, num_threads: int, answer: Answer) -> object:
    import torch

    from graft.server.parity.layers import LayeredOracle

    torch.set_num_threads(num_threads)
    told = time.monotonic()

    def progress(share: float) -> None:
        nonlocal told
        if time.monotonic() - told >= _PROGRESS_SECONDS:
            told = time.monotonic()
            answer({"progress": round(share, 4)})

    return LayeredOracle(base, form, progress=progress)


def _read(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # the server has ended or wants no more, whatever is being computed


def _load_base(base: str, form: str) -> PreTrainedModel:
    """`form` is nf4, bf16 or fp32; a folder that is quantized already is taken as it is."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    torch.set_num_threads(1)
    # What the engine does in flight: NF4 without a second quantisation of the scales, computing in bfloat16.
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=False,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=torch.float32 if form == "fp32" else torch.bfloat16,
        quantization_config=nf4 if form == "nf4" else None,
        attn_implementation=attention_of(AutoConfig.from_pretrained(base, local_files_only=True)),
        local_files_only=True,
    )
    for module in model.modules():
        # bitsandbytes packs NF4 weights for CPUs at their first use; taken apart again, as peft's reading of a state
        # dict does, they are others than before (0.50.2: log-probabilities off by two nats).
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model.eval()


class _Oracle:
    """The base and one adapter, which the next one replaces."""

    def __init__(self, base: str, form: str) -> None:
        self._base: Any = _load_base(base, form)
        self._model: Any = None
        self._names = itertools.count()

    def rows(self, *, folder: str, num_rows: int, num_tokens: int) -> list[dict[str, object]]:
        """Tokens that the adapted model finds likely carry little of bfloat16's rounding noise: drawn blindly, they
        would differ between two sound implementations by more than the tolerance.
        """
        import torch

        model = self._adapted(folder)
        with torch.inference_mode():
            rows = _drawn(model, num_rows, num_tokens)
            if num_labels_in(Path(folder)):
                return [told for row in rows for told in head_rows(model, folder, row)]
            return [{"token_ids": row, "logprobs": logprobs(model, row)} for row in rows]

    def _adapted(self, folder: str) -> Any:
        if not virtual_tokens_in(Path(folder)):
            self._adapt(folder)
            return self._model
        from graft.server.parity.soft_prompted import SoftPrompted

        if self._model is not None:
            self._base, self._model = self._model.unload(), None
        return SoftPrompted(self._base, folder)

    def _adapt(self, folder: str) -> None:
        from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
        from peft.utils import load_peft_weights

        config = PeftConfig.from_pretrained(folder)
        config.init_lora_weights = True  # an update of zero where the file has no values
        weights = without_head(config, load_peft_weights(folder, device="cpu"))
        name = f"adapter{next(self._names)}"
        if self._model is None:
            self._model = get_peft_model(self._base, config, adapter_name=name, autocast_adapter_dtype=False)
        else:
            old = self._model.active_adapter
            self._model.add_adapter(name, config)
            self._model.set_adapter(name)
            self._model.delete_adapter(old)
        placed = set_peft_model_state_dict(self._model, weights, adapter_name=name)
        check_placed(placed.unexpected_keys)
        for key, parameter in self._model.named_parameters():
            if ".lora_" in key:
                parameter.data = parameter.data.to(self._base.dtype)  # the precision in which the engine holds them
        self._model.eval()


def _drawn(model: Any, num_rows: int, num_tokens: int) -> list[list[int]]:
    """Any first tokens, and what the model goes on to say at temperature 1."""
    import torch

    generator = torch.Generator().manual_seed(0)
    ids_RL = torch.randint(model.config.vocab_size, (num_rows, 1), generator=generator)
    while ids_RL.shape[1] < num_tokens:
        probabilities_RV = model(input_ids=ids_RL).logits[:, -1].float().softmax(-1)
        ids_RL = torch.cat([ids_RL, torch.multinomial(probabilities_RV, 1, generator=generator)], dim=1)
    rows: list[list[int]] = ids_RL.tolist()
    return rows


def check_placed(unexpected: Sequence[str]) -> None:
    """Raises `ValueError` where an adapter's file names tensors of no module that it adapts."""
    if unexpected:
        raise ValueError(f"{len(unexpected)} tensors are of no target module: {unexpected[0]}")


def logprobs(model: Any, row: Sequence[int]) -> list[float]:
    """Natural logarithms of the probabilities of a row's tokens but the first."""
    import torch

    ids_L = torch.tensor(row)
    logprobs_LV = model(input_ids=ids_L[None]).logits[0].float().log_softmax(-1)
    chosen: list[float] = logprobs_LV[:-1].gather(1, ids_L[1:, None]).flatten().tolist()
    return chosen


if __name__ == "__main__":
    # As the module that `layers` imports, not as a second one of other classes.
    from graft.server.parity import oracle as this

    sys.exit(this.main(*sys.argv[1:]))
