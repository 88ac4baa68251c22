"""Chat templates with the manners of those in use, over the control tokens of ``tokenizers_of``."""

_ALTERNATING = """
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('after a question comes an answer, then a question again') }}
{%- endif %}
{%- endfor %}
"""
_ENDED = "<|turn|>{{ message.role }}\n{{ message.content }}<|end|>\n"

ENDED = (
    "{% for message in messages %}"
    + _ENDED
    + "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
"""As ChatML and Llama 3: every turn ends alike."""

NO_END = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
"""Nothing ends an answer but the next turn."""

BARE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}[Q] {{ message.content }} [A]"
    "{% else %} {{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
"""As Mistral: no prompt opens an answer."""

STRICT = (
    "{{ bos_token }}"
    + _ALTERNATING
    + (
        "{% for message in messages %}<|turn|>{{ 'model' if message.role == 'assistant' else message.role }}\n"
        "{{ message.content | trim }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|turn|>model\n{% endif %}"
    )
)
"""As Gemma: no system turns, turns alternate, blanks around a text go."""

LAST_END = (
    "{% for message in messages %}" + _ENDED + "{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% else %}{{ eos_token }}{% endif %}"
)
"""As Phi-3: a last mark where no answer is opened."""

CUT_REASONING = (
    "{% set last = namespace(at=-1) %}"
    "{% for message in messages %}{% if message.role == 'user' %}{% set last.at = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    "{% set said = message.content.split('</think>')[-1].lstrip('\n') %}"
    "{% set thought = message.content.split('</think>')[0].split('<think>')[-1].strip('\n') "
    "if '</think>' in message.content else '' %}<|turn|>assistant\n"
    "{% if loop.index0 > last.at %}<think>\n{{ thought }}\n</think>\n\n{% endif %}{{ said }}<|end|>\n"
    "{% else %}" + _ENDED + "{% endif %}{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
"""As Qwen3: the reasoning of earlier answers is left out, the last one's is always written."""

OPENED_REASONING = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}<|turn|>{{ message.content }}"
    "{% elif message.role == 'system' %}{{ message.content }}"
    "{% else %}<|end|>{{ message.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|end|><think>\n{% endif %}"
)
"""As DeepSeek-R1: the prompt opens a tag that no finished turn has."""

TEMPLATES = {
    "ended": ENDED,
    "no end": NO_END,
    "bare": BARE,
    "strict": STRICT,
    "last end": LAST_END,
    "cut reasoning": CUT_REASONING,
    "opened reasoning": OPENED_REASONING,
}
