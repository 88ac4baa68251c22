"""A prompt program as a value: what its JSON holds, with every default. Nothing here renders, stores or runs it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

DEMONSTRATIONS = "demonstrations"
"""The placeholder, in a text `{{demonstrations}}`, where the chosen demonstrations stand."""

SOURCES = "sources"
"""The placeholder, in a text `{{sources}}`, where the shown passages of documents stand."""

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class Value(BaseModel):
    """Strict: no unknown key, no number that is written as text, nothing that changes afterwards."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class PromptType(StrEnum):
    """What the prompt is: one text, or the turns of a chat."""

    TEXT = "text"
    CHAT = "chat"


class TemplateFormat(StrEnum):
    """The syntax of the templates."""

    MUSTACHE = "mustache"
    """`{{variable}}`, and nothing else."""
    JINJA2 = "jinja2"
    """Rendered in a sandbox in a process of its own."""


class Turn(Value):
    """One turn of a chat; `content` is a template."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class Placeholder(Value):
    """Where other turns stand: `demonstrations`, or a variable that holds a list of turns (Langfuse's form)."""

    type: Literal["placeholder"]
    name: Name


def _kind(value: Any) -> str | None:
    """Which of the forms that a prompt or an entry of it can have, so that errors speak of that one alone."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, list | tuple):
        return "chat"
    if isinstance(value, Placeholder) or (isinstance(value, dict) and "type" in value):
        return "placeholder"
    return "turn" if isinstance(value, Turn | dict) else None


Entry = Annotated[
    Annotated[Turn, Tag("turn")] | Annotated[Placeholder, Tag("placeholder")],
    Discriminator(_kind, custom_error_type="entry", custom_error_message="must be a turn or a placeholder"),
]
Prompt = Annotated[
    Annotated[str, Tag("text")] | Annotated[tuple[Entry, ...], Tag("chat")],
    Discriminator(_kind, custom_error_type="prompt", custom_error_message="must be a text, or a list of turns"),
]


class Demonstration(Value):
    """One worked example: the values of the template's variables, and what is right."""

    inputs: dict[str, str]
    output: str
    rationale: str | None = None
    label: str | None = None
    """Its class, for balanced choice; default: its output."""


class Choosing(Value):
    """Which demonstrations stand in the prompt, and in which order."""

    method: Literal["fixed", "random", "balanced", "bm25", "mmr", "embedding"] = "fixed"
    count: Annotated[int, Field(ge=0, le=256)] | None = None
    """How many; default: all of them where they are fixed, else 4."""
    seed: Seed = 0
    diversity: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of mmr: 0 asks for likeness only, 1 for difference only (Carbonell and Goldstein 1998)."""
    order: Literal["given", "similar_last", "entropy"] = "given"
    """entropy: the order whose predicted labels are the least one-sided (Lu et al. 2022, arXiv:2104.08786)."""


class Demonstrating(Value):
    """How a demonstration is written."""

    prompt: str | None = None
    """Template of its question; default: of a text what follows `{{demonstrations}}`, of a chat the last user turn."""
    answer: str | None = None
    """Template of its answer from `{{output}}` and `{{rationale}}`; default: the output, or with reasoning the
    rationale, a line's end and the output.
    """
    before_answer: str = " "
    """In a text, between question and answer."""
    separator: str = "\n"
    """In a text, between one demonstration and what follows it. Where no `stop` is given, answers end at it, or, where
    answers or their rationales hold it, at it with the words that questions begin with.
    """


class Reasoning(Value):
    """How the answer is come by."""

    method: Literal["direct", "chain_of_thought", "least_to_most", "program_of_thought"] = "direct"
    """chain_of_thought: with demonstrations that carry rationales (Wei et al. 2022, arXiv:2201.11903), else in two
    stages, reasoning and then the answer (Kojima et al. 2022, arXiv:2205.11916). least_to_most: Zhou et al. 2022,
    arXiv:2205.10625. program_of_thought: Chen et al. 2022, arXiv:2211.12588, with arithmetic expressions only.
    """
    instruction: str | None = None
    """What the reasoning begins with where no demonstration shows it; default: the method's own, of its paper."""
    answer_instruction: str = "Therefore, the answer is"
    paths: Annotated[int, Field(ge=1, le=64)] = 1
    """Sampled paths that vote (self-consistency: Wang et al. 2022, arXiv:2203.11171)."""
    vote: Literal["plain", "weighted"] = "plain"
    """weighted: by each path's probability per token."""
    stop_early: bool = True
    """Later paths are left out once no path could change the vote."""
    verify: bool = False
    """A second pass judges the answer; one that it rejects is made anew once."""
    verify_instruction: str = "Is the answer above right? Say yes or no."
    max_tokens: Count | None = None
    """Budget of all paths together; what runs into it ends in an answer or an error."""
    withhold: bool = False
    """The rationale is not told."""


class Extraction(Value):
    """How the answer is read from what was said."""

    method: Literal["whole", "first_line", "after", "last_number", "regex", "json", "choice"] = "whole"
    marker: str | None = None
    """Of `after`: the answer stands behind its last occurrence."""
    pattern: str | None = None
    """Of `regex`, in RE2's syntax: its first group, or all of it, at its last match."""
    field: str | None = None
    """Of `json`: a key of the object."""


class Calibration(StrEnum):
    """What is taken off the choices' scores, so that no choice wins whatever is asked."""

    NONE = "none"
    CONTEXTUAL = "contextual"
    """Divided by what content-free inputs get (Zhao et al. 2021, arXiv:2102.09690)."""
    PMI = "pmi"
    """Minus the log-probability after a domain's premise (Holtzman et al. 2021, arXiv:2104.08315)."""
    BATCH = "batch"
    """Minus the mean over the inputs seen so far (Zhou et al. 2023, arXiv:2309.17249)."""


class Scoring(Value):
    """How choices are compared."""

    normalize: Literal["sum", "token", "byte", "unconditional"] = "sum"
    """Log-probability of the choice: whole, per token, per UTF-8 byte, or minus that after `unconditional_prompt`
    (Brown et al. 2020, section 2.4).
    """
    unconditional_prompt: str = "Answer: "
    calibration: Calibration = Calibration.NONE
    content_free: tuple[str, ...] = ("N/A", "", "[MASK]")
    premise: str | None = None
    """Of pmi: the domain's premise; default: the end of the prompt behind its last line's beginning."""
    orders: Annotated[int, Field(ge=1, le=8)] = 1
    """Rotations of the shown demonstrations that direct choices are scored under; of more than one, what the order
    changes is told. The answer is that of the first, the prompt's own.
    """


class Output(Value):
    """The output contract."""

    type: Literal["text", "choices", "json_schema", "regex"] = "text"
    choices: tuple[str, ...] | None = None
    json_schema: dict[str, Any] | None = None
    regex: str | None = None


class Decoding(Value):
    """As the field's APIs have it; what is not given here is given by the request, or its default."""

    max_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Seed | None = None
    stop: tuple[str, ...] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = None


class Document(Value):
    """A source that answers may cite."""

    id: Name
    text: str
    title: str | None = None


class Sourcing(Value):
    """How documents come into the prompt, and what is asked of citations."""

    count: Annotated[int, Field(ge=1, le=256)] = 4
    """Passages that are shown."""
    passage_words: Annotated[int, Field(ge=8, le=4096)] = 120
    query: str | None = None
    """Template of what passages are picked by; default: all variables' values."""
    strict: bool = False
    """An answer with a claim that no shown passage supports is an error."""
    min_overlap: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Part of a sentence's words that its cited passage must share."""


class ProgramTest(Value):
    """Variables, and what the answer must be."""

    variables: dict[str, Any]
    equals: str | None = None
    contains: str | None = None
    matches: str | None = None
    """In RE2's syntax."""


class PromptProgram(Value):
    """One version's content. Its name, labels and number stand beside it in the catalog."""

    type: PromptType = PromptType.TEXT
    prompt: Prompt
    template_format: TemplateFormat = TemplateFormat.MUSTACHE
    mode: Literal["zero_shot", "one_shot", "few_shot"] | None = None
    """Default: few_shot where there are demonstrations. zero_shot leaves them out, one_shot takes one."""
    demonstrations: tuple[Demonstration, ...] = ()
    demonstrating: Demonstrating = Demonstrating()
    choosing: Choosing = Choosing()
    reasoning: Reasoning = Reasoning()
    output: Output = Output()
    scoring: Scoring = Scoring()
    decoding: Decoding = Decoding()
    extraction: Extraction = Extraction()
    documents: tuple[Document, ...] = ()
    sourcing: Sourcing | None = None
    """How documents are shown, at `{{sources}}`, and citations checked. None: there are no documents."""
    model: str | None = None
    """A model reference (`dates`, `dates@3`, `dates:canary`); default: the request's, else the base."""
    tests: tuple[ProgramTest, ...] = ()
    config: dict[str, Any] = {}
    """The author's own; nothing here reads it."""
