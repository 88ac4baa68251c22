"""Public chat templates, read from TRL's wheel, over the shipped base's tokenizer with their control tokens added; and
rows of every kind that is asked of them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from graft.adapters.base.base import find_base
from graft.training.model.loading import load_tokenizer

NAMES = sorted(
    path.name.removesuffix(".jinja")
    for path in files("trl").joinpath("chat_templates").iterdir()
    if path.name.endswith(".jinja") and not path.name.endswith("_training.jinja")
)
_CONTROLS = re.compile(r"<[|｜][^<>\s{}'\"\\]*[|｜]>|<\w+_of_\w+>|<\|\w+>|<\w+\|>|\[/?[A-Z_]{3,}\]")
_STOPS = (
    "<|im_end|>", "<|eot_id|>", "<|end|>", "<|eom_id|>", "<end_of_turn>", "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>", "<|user|>", "<|observation|>", "<end_of_utterance>", "<turn|>", "<|tool_response>",
    "<|return|>", "<|call|>", "<|eot|>",
)  # fmt: skip
"""What generation stops at, by the families' generation_config.json."""

MISTRAL = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set told = messages[0].content + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set told = '' %}{% endif %}"
    "{% set last = (messages | selectattr('role', 'equalto', 'user') | list)[-1] %}"
    "{% for message in messages %}{% if message.role == 'user' %}"
    "{% if message == last and tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "[INST]{{ told if message == last else '' }}{{ message.content }}[/INST]"
    "{% elif message.tool_calls %}[TOOL_CALLS]["
    "{% for call in message.tool_calls %}{% if call.id | length != 9 %}{{ raise_exception('ids have 9 letters') }}"
    "{% endif %}{{ {'name': call.function.name, 'arguments': call.function.arguments, 'id': call.id} | tojson }}"
    "{% if not loop.last %}, {% endif %}{% endfor %}]{{ eos_token }}"
    "{% elif message.role == 'tool' %}[TOOL_RESULTS]{{ {'content': message.content, 'call_id': message.tool_call_id} "
    "| tojson }}[/TOOL_RESULTS]"
    "{% elif message.role == 'assistant' %}{{ message.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('no such role') }}{% endif %}{% endfor %}"
)
"""As Mistral v3: the system's words stand in the last question."""
ZEPHYR = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VICUNA = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content }} {% set messages = messages[1:] %}{% endif %}"
    "{% for message in messages %}{% if message.role == 'user' %}USER: {{ message.content | trim }} "
    "{% else %}ASSISTANT: {{ message.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0].role == 'system' %}{% set told = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set told = '' %}{% endif %}"
    "{% for message in messages %}{% if message.role == 'user' %}{{ bos_token }}[INST] "
    "{{ told if loop.first else '' }}{{ message.content | trim }} [/INST]"
    "{% else %} {{ message.content | trim }} {{ eos_token }}{% endif %}{% endfor %}"
)
OWN: Mapping[str, str] = {"mistral": MISTRAL, "zephyr": ZEPHYR, "chatml": CHATML, "vicuna": VICUNA, "llama2": LLAMA_2}
"""Kinds that TRL's wheel lacks, as small as they can be."""


def template(name: str) -> str:
    """The text of one."""
    return OWN.get(name) or files("trl").joinpath("chat_templates", f"{name}.jinja").read_text(encoding="utf-8")


@functools.cache
def tokenizer_of(text: str) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """A tokenizer with this template, and what generation stops at beside its own end."""
    made = load_tokenizer(find_base("rootstock-5m"))
    names = [name for name in sorted(set(_CONTROLS.findall(text))) if name not in made.get_vocab()]
    made.add_special_tokens({"additional_special_tokens": [AddedToken(one, normalized=False) for one in names]})
    plain = [name for name in ("<think>", "</think>", "<tool_call>", "</tool_call>") if name in text]
    made.add_tokens([*plain, *(["<|python_tag|>"] if "<|start_header_id|>" in text else [])])
    made.chat_template = text
    stops = [name for name in _STOPS if name in text and not (name == "<|end|>" and "<|channel|>" in text)]
    return made, made.convert_tokens_to_ids(stops)


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def said(content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


CALL = {
    "id": "call00001",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Oslo", "days": 2}'},
}
RESULT = {"role": "tool", "tool_call_id": "call00001", "content": "rain"}
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": CITY}}]
ROWS: Mapping[str, Mapping[str, Any]] = {
    "single": {"messages": [user("What is 2+2?"), said("It is 4.")]},
    "multi": {"messages": [user("What is 2+2?"), said("It is 4."), user("And 12+30?"), said("42 it is.\n\n- so")]},
    "system": {
        "messages": [{"role": "system", "content": "Be brief."}, user("2+2?"), said("4."), user("3+3?"), said("6.")]
    },
    "tools": {
        "messages": [user("Rain in Oslo?"), said(None, tool_calls=[CALL]), RESULT, said("Yes, it rains.")],
        "tools": TOOLS,
    },
    "reasoning": {
        "messages": [
            user("What is 2+2?"),
            said("It is 4.", reasoning_content="Two and two are four."),
            user("And 3?"),
            said("Then 5.", reasoning_content="One more."),
        ]
    },
    "reasoned tools": {
        "messages": [
            user("Rain in Oslo?"),
            said(None, tool_calls=[CALL], reasoning_content="I must look."),
            RESULT,
            said("Yes, it rains.", reasoning_content="It says rain."),
        ],
        "tools": TOOLS,
    },
}
NO_REASONING = "no place for reasoning"
_TEXT = ("single", "multi", "system", "tools")
_IMAGES = "writes nothing of message 1|has no attribute 'text'|no place for reasoning"
REFUSED: Mapping[tuple[str, str], str] = {
    **{("gemma", kind): "System role not supported" for kind in ("system", "tools", "reasoned tools")},
    **{(name, kind): _IMAGES for name in ("idefics3", "llava_next", "smolvlm") for kind in ROWS},
    **{("deepseekv3", kind): 'can only concatenate str \\(not "dict"' for kind in ("tools", "reasoned tools")},
    **{("deepseek_r1_distill", kind): "not all of its calls" for kind in ("tools", "reasoned tools")},
    **{("qwen3_5_nothink", kind): "enable_thinking" for kind in ("reasoning", "reasoned tools")},
    **{
        (name, kind): NO_REASONING
        for kind in ("reasoning", "reasoned tools")
        for name in (
            "cohere", "cohere2", "gemma3", "gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4", "lfm2", "lfm2_v2",
            "llama3", "llama3_1", "llama3_2", "phi3", "phi3_5", "qwen2_5", "qwen2_5_vl", "qwen3_instruct_2507",
            "qwen3_vl", *OWN,
        )
    },
    ("gemma", "reasoning"): NO_REASONING,
}  # fmt: skip
"""Which rows cannot be learned rightly under a template, and what is said of them."""


def answers(input_ids: Sequence[int], supervised: Sequence[bool]) -> list[tuple[list[int], list[int]]]:
    """(all ids before, ids of the answer) for each run of learned tokens."""
    found, start = [], None
    for at, learned in enumerate([*supervised, False]):
        if learned and start is None:
            start = at
        if not learned and start is not None:
            found.append((list(input_ids[:start]), list(input_ids[start:at])))
            start = None
    return found
