"""The model card of a base made from generated documents."""

from collections.abc import Mapping
from pathlib import Path

from graft.training.rootstock.recipe import Recipe

_CARD = """\
---
license: apache-2.0
language: en
pipeline_tag: text-generation
library_name: transformers
---

# {name}

A Llama of {parameters:.1f} million parameters ({num_layers} layers of width {width}, {context} positions) with a
character-level tokenizer:
printable ASCII and the newline one token each, digits one by one, every other character as UTF-8 bytes. It was made
to be
small enough to lie in a package, and to be adapted with LoRA.

## Training

`graft pretrain --recipe {name}` made it from generated documents alone, without any third-party text: functions shown
by examples, additions
directly and with worked steps, dates in six formats, review sentences with their label, short stories, questions with
answers,
and conversations in the ChatML template. {num_steps} steps of at most {step_tokens} tokens, Muon for the matrices of
the blocks and AdamW for the rest,
documents packed with block-diagonal attention, seed {seed}. In the last {nf4_share:.0%} of the steps the forward pass
used the
NF4 round trip of the weights, because NF4 is the form it is served in; the stored weights are that round trip, so
bfloat16 and NF4 (blocks of 64) agree.

One operand pair and one word in eight are held out by a hash; `graft evaluate rootstock` asks about those only.

## Use

No token is added on its own: a document begins with its first character and ends in `<|eos|>`, a turn of a
conversation in `<|im_end|>`.
Text `12+39?` is answered with steps, `12+39=` directly; `abc -> cba` lines show a function by examples.
It knows no language beyond its documents and no facts: it is for demonstrations and tests.
Contexts beyond {length} tokens were not trained.
"""


def is_made_by(recipe: Recipe, folder: Path) -> bool:
    """Whether the base in a folder says that the recipe made it."""
    try:
        return f"`graft pretrain --recipe {recipe.name}` made it" in (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def card(recipe: Recipe, tables: Mapping[str, str] | None = None) -> str:
    """The card's text, with the tables of scores by serving form where they were measured."""
    config = recipe.config
    per_layer = 4 * config.hidden_size**2 + 3 * config.hidden_size * config.intermediate_size + 2 * config.hidden_size
    num_parameters = per_layer * config.num_hidden_layers + config.hidden_size * (config.vocab_size + 1)
    text = _CARD.format(
        name=recipe.name,
        parameters=num_parameters / 1e6,
        num_layers=config.num_hidden_layers,
        width=config.hidden_size,
        context=config.max_position_embeddings,
        num_steps=recipe.num_steps,
        step_tokens=recipe.num_rows * recipe.length,
        seed=recipe.seed,
        nf4_share=recipe.nf4_share,
        length=recipe.length,
    )
    for form, table in (tables or {}).items():
        text += f"\n## Scores on held-out instances, {form}\n\n```\n{table}\n```\n"
    return text
