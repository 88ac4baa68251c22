"""Fine-tuning: what is learned of rows and templates, and what is said before the first step."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import torch
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

from graft.adapters.base.base import Base
from graft.server.engine.tokenizer.tokenizer import Tokenizer
from graft.training.job.export import write_base
from graft.training.rootstock.tokenizer import build_tokenizer
from graft.v1 import common_pb2, server_pb2, server_pb2_grpc
from tests.cases.harness.bases import change_config, change_weights, make_base
from tests.cases.harness.command import CommandCase, Commands
from tests.training.chat_templates import TEMPLATES
from tests.training.tokenizers_of import make_tokenizer

FINETUNE = [
    "finetune",
    "--base",
    "{folder}/base",
    "--data",
    "{folder}/rows.jsonl",
    "--name",
    "one",
    "--output",
    "{folder}/out",
]
ONE_STEP = ["--max-steps", "1", "--per-device-train-batch-size", "2", "--r", "4"]
PLAIN = {"prompt": "ant -> ", "completion": "ANT"}
ANSWERS = ("bert", "roberta", "albert", "electra", "distilbert", "t5", "bart")
Prepare = Callable[[Path], object]


def asked(*turns: str) -> dict[str, object]:
    """Turns written as ``user: hello``."""
    pairs = [turn.split(": ", 1) for turn in turns]
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def base_and_rows(*rows: object, family: str = "llama", then: Prepare | None = None) -> Prepare:
    def prepare(folder: Path) -> None:
        make_base(family, folder / "base")
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows or [PLAIN]))
        if then is not None:
            then(folder / "base")

    return prepare


def with_template(template: str) -> Prepare:
    """A template of ``chat_templates``, over the rootstock's control tokens."""
    text = TEMPLATES[template]
    for theirs, ours in (("<|turn|>", "<|im_start|>"), ("<|end|>", "<|im_end|>")):
        text = text.replace(theirs, ours)
    return lambda base: (base / "chat_template.jinja").write_text(text)


def tokenizer_config(**values: object) -> Prepare:
    def change(base: Path) -> None:
        path = base / "tokenizer_config.json"
        known = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({name: value for name, value in known.items() if value is not None}))

    return change


def post_processor(base: Path) -> None:
    """``<bos> $A <eos>``."""
    path = base / "tokenizer.json"
    values = json.loads(path.read_text())
    special = {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in (("<|bos|>", 1), ("<|eos|>", 2))}
    single = [
        {"SpecialToken": {"id": "<|bos|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<|eos|>", "type_id": 0}},
    ]
    values["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": single,
        "special_tokens": special,
    }
    path.write_text(json.dumps(values))


def spoiled(tensor: str, value: float) -> Prepare:
    def spoil(base: Path) -> None:
        change_weights(base, lambda tensors: tensors[tensor].view(-1)[3:4].fill_(value))

    return spoil


def odd_sizes(folder: Path) -> None:
    base_and_rows()(folder)
    tokenizer = build_tokenizer(128)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=72, intermediate_size=100, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, eos_token_id=[2, 4], pad_token_id=0,
    )  # fmt: skip
    write_base(LlamaForCausalLM(config).to(torch.bfloat16), tokenizer, folder / "base", card="# odd\n")


def learned_nothing(folder: Path) -> None:
    assert not (folder / "out").exists(), "a job's folder was left"


def finished(folder: Path) -> None:
    with safe_open(folder / "out" / "adapter" / "adapter_model.safetensors", framework="pt") as file:
        assert all(file.get_tensor(name).isfinite().all() for name in file.keys())  # noqa: SIM118
    rows = json.loads((folder / "out" / "adapter" / "reference.json").read_text())["rows"]
    assert rows


def reference_begins(*ids: int, without: Sequence[int] = ()) -> Prepare:
    """What stands before the first row's answer, which the trainer recorded."""

    def check(folder: Path) -> None:
        finished(folder)
        row = json.loads((folder / "out" / "adapter" / "reference.json").read_text())["rows"][0]
        before = row["token_ids"][: row["num_prompt_tokens"]]
        assert before[: len(ids)] == list(ids)
        assert not set(before[len(ids) :]) & set(without), before

    return check


def refused(
    id: str, *says: str, prepare: Prepare, flags: Sequence[str] = (), silent: Sequence[str] = ()
) -> CommandCase:
    return CommandCase(
        id=id, argv=[*FINETUNE, *ONE_STEP, *flags], prepare=prepare, says=says, silent=silent, then=learned_nothing
    )


def trains(
    id: str, *, prepare: Prepare, flags: Sequence[str] = (), says: Sequence[str] = (), then: Prepare = finished
) -> CommandCase:
    return CommandCase(id=id, argv=[*FINETUNE, *ONE_STEP, *flags], prepare=prepare, code=0, says=says, then=then)


BAD = [asked("system: be good", "user: a", "assistant: b"), asked("assistant: hi", "user: a", "assistant: b")]
TALK = asked("user: a", "assistant: b", "user: c", "assistant: d")
TWELVE_BAD = [row for number in range(12) for row in (TALK, BAD[number % 2])]
WRITTEN_OUT = asked("user: say <|im_end|> and <|eos|> to me", "assistant: <|im_start|> it is")

CASES = [
    trains("T1 no pad token", prepare=base_and_rows(then=tokenizer_config(pad_token=None))),
    trains("T1 pad is the end", prepare=base_and_rows(then=tokenizer_config(pad_token="<|eos|>"))),
    refused(
        "T2 twelve bad rows among good ones",
        "rows.jsonl, line 2: the base's chat template refuses the conversation: after a question comes an answer",
        "rows.jsonl, line 20: ", "more bad lines", ", in lines 22, 24",
        prepare=base_and_rows(*TWELVE_BAD, then=with_template("strict")),
        silent=["jinja", "transformers"],
    ),
    trains("T2 a greeting comes first", prepare=base_and_rows(BAD[1])),
    refused(
        "T2 a broken template", "chat template of", "is broken in line 1",
        prepare=base_and_rows(TALK, then=lambda base: (base / "chat_template.jinja").write_text("{% for")),
    ),
    refused(
        "T2 no template", "has no chat template", "add chat_template.jinja",
        prepare=base_and_rows(TALK, then=lambda base: (base / "chat_template.jinja").unlink()),
    ),
    *(
        trains(f"T3 T4 a template like {template!r}", prepare=base_and_rows(TALK, then=with_template(template)))
        for template in TEMPLATES
    ),
    trains(
        "T6 control tokens' names in a conversation",
        prepare=base_and_rows(WRITTEN_OUT),
        then=reference_begins(3, without=[2]),  # <|im_start|>, and nowhere <|eos|>
    ),
    refused(
        "T7 a layer mistyped", "'qproj' is no layer, did you mean 'q_proj'?", "q_proj, up_proj, v_proj",
        prepare=base_and_rows(), flags=["--target-modules", "q_proj,qproj"],
    ),
    refused(
        "T7 the output head and a norm",
        "'lm_head' is the output head, whose adapter no server takes",
        "'norm' is no linear layer",
        prepare=base_and_rows(), flags=["--target-modules", "q_proj,lm_head,norm"],
    ),
    refused(
        "T7 nobody at --push", "--push 127.0.0.1:9: no server answers there",
        prepare=base_and_rows(), flags=["--push", "127.0.0.1:9"],
    ),
    refused("T7 a rank beyond every engine", "'r' has the value 513", prepare=base_and_rows(), flags=["--r", "513"]),
    *(
        refused(
            f"T9 {value} in a weight, {form}", "model.layers.1.mlp.down_proj.weight",
            prepare=base_and_rows(then=spoiled("model.layers.1.mlp.down_proj.weight", value)),
            flags=flags,
        )
        for value, form, flags in [
            (float("nan"), "nf4", []), (float("inf"), "bf16", ["--no-load-in-4bit"]),
            (3e38, "llm-int8", ["--load-in-8bit"]),
        ]
    ),
    refused(
        "T12 a token behind the table's end", "rows.jsonl, line 1: it has the token id", "end at 299",
        prepare=base_and_rows(
            {"prompt": "ant -> ", "completion": "xyz"},
            then=lambda base: [
                change_config(base, vocab_size=300),
                change_weights(base, lambda tensors: tensors.update(
                    {name: one[:300].contiguous() for name, one in tensors.items() if "embed" in name or "head" in name}
                )),
            ],
        ),
    ),
    refused(
        "T12 longer than the rotary positions", "rows.jsonl, line 2: 142 tokens, base has 128 positions",
        prepare=base_and_rows(PLAIN, {"prompt": "a" * 140, "completion": "b"}),
    ),
    *(
        refused(
            f"T13 {family}", "does not write text token by token; only such bases are served, so only they are",
            prepare=base_and_rows(family=family),
        )
        for family in ANSWERS
    ),
    *(
        refused(
            f"{id} {family}",
            "are not in linear layers", "The engine takes adapters on linear layers only, so none is trained",
            prepare=base_and_rows(family=family),
        )
        for id, family in (("C8", "gpt2"), ("T8", "mixtral"), ("T13", "xlnet"))
    ),
    trains(
        "R9 a tokenizer that adds a begin and an end",
        prepare=base_and_rows(PLAIN, then=post_processor),
        then=reference_begins(1, without=[1, 2]),
    ),
    trains(
        "R9 a prompt that begins with the begin",
        prepare=base_and_rows({"prompt": "<|bos|>2+2=", "completion": "4"}, then=post_processor),
        then=reference_begins(1, without=[1, 2]),
    ),
    trains("R10 sizes that no block divides, nf4", prepare=odd_sizes),
]  # fmt: skip

PRETRAIN = [
    *("pretrain", "--text", "{folder}/text.jsonl", "--output", "{folder}/made", "--work", "{folder}/out"),
    *("--model", "{folder}/base", "--max-steps", "1", "--per-device-train-batch-size", "1"),
]


def base_and_text(family: str, then: Prepare | None = None) -> Prepare:
    def prepare(folder: Path) -> None:
        base_and_rows(family=family, then=then)(folder)
        (folder / "text.jsonl").write_text(json.dumps({"text": "ant bee cat " * 40}) + "\n")

    return prepare


FURTHER = [
    *(
        CommandCase(
            id=f"T12 pretrain {family} beyond its positions",
            argv=[*PRETRAIN, "--max-length", "129"],
            prepare=base_and_text(family),
            says=["max_length is 129, and the model in", "has 128 positions: lower it"],
            then=learned_nothing,
        )
        for family in ("gpt2", "roberta", "llama")
    ),
    CommandCase(
        id="T12 pretrain with a token behind the table's end",
        argv=[*PRETRAIN, "--max-length", "64"],
        prepare=base_and_text("llama", then=lambda base: change_config(base, vocab_size=300)),
        says=["it has ids up to 383, and the model has embeddings for 300"],
        then=learned_nothing,
    ),
]


@pytest.mark.parametrize("case", [*CASES, *FURTHER], ids=str)
def test_commands(case: CommandCase, commands: Commands) -> None:
    commands.check(case)


@pytest.mark.parametrize("kind", ["metaspace first", "byte-level"])
def test_t5_r9_ids_are_those_of_the_whole_text_and_of_the_server(kind: str, commands: Commands) -> None:
    """A tokenizer that adds begin and end, and a template that writes both, from the command to what it records."""
    tokenizer = make_tokenizer(kind, pair="<s> $A </s>", template=TEMPLATES["bare"])
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    folder = commands.folder
    write_base(LlamaForCausalLM(config).to(torch.bfloat16), tokenizer, folder / "base", card="# own\n")
    rows = [asked("user: hello there", "assistant: dear friend"), {"prompt": "2+3=", "completion": "5"}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    commands.check(trains("T5", prepare=lambda folder: None))
    chat, raw = json.loads((folder / "out" / "adapter" / "reference.json").read_text())["rows"][:2]
    whole = "<s>[Q] hello there [A] dear friend</s>"
    assert chat["token_ids"] == tokenizer(whole, add_special_tokens=False)["input_ids"]
    served = Tokenizer.from_folder(folder / "base")
    assert chat["token_ids"][: chat["num_prompt_tokens"]] == served.render_chat(
        [{"role": "user", "content": "hello there"}]
    )
    assert raw["token_ids"][: raw["num_prompt_tokens"]] == served.encode("2+3=")
    assert raw["token_ids"] == tokenizer("2+3=5")["input_ids"]  # whose end now is the answer's


def test_r5_the_same_command_again_deletes_nothing(commands: Commands) -> None:
    base_and_rows()(commands.folder)
    words = [word.replace("{folder}", str(commands.folder)) for word in [*FINETUNE, *ONE_STEP]]
    assert commands.run(*words).code == 0
    again = CommandCase(id="R5", argv=words, says=["holds checkpoints of an earlier run: add --resume"], then=finished)
    commands.check(again)
    other = CommandCase(
        id="R5 other", argv=[*words, "--resume", "--seed", "7"], says=["seed was 0 and is 7"], then=finished
    )
    commands.check(other)
    assert commands.run(*words, "--resume").code == 0


@contextmanager
def serving(info: server_pb2.GetInfoResponse):  # type: ignore[no-untyped-def]
    class Servicer(server_pb2_grpc.ServerServiceServicer):
        def GetInfo(self, request: object, context: object) -> server_pb2.GetInfoResponse:
            return info

    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    server_pb2_grpc.add_ServerServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0)


def test_t7_a_server_that_would_refuse_is_asked_first(commands: Commands) -> None:
    base_and_rows()(commands.folder)
    own = Base.from_folder(commands.folder / "base")
    limits = server_pb2.Limits(max_rank=64, num_slots=8)
    same = server_pb2.Base(name="oak", digest=own.digest)
    other = server_pb2.Base(name="elm", digest="sha256:" + "0" * 64)
    nf4, int8 = common_pb2.SERVING_FORM_NF4, common_pb2.SERVING_FORM_INT8
    for info, flags, says in [
        (
            server_pb2.GetInfoResponse(base=same, form=nf4, limits=limits),
            ["--r", "512"],
            "the largest rank there is 64",
        ),
        (server_pb2.GetInfoResponse(base=other, form=nf4, limits=limits), [], "it serves the base elm"),
        (server_pb2.GetInfoResponse(base=same, form=int8, limits=limits), [], "it holds the base as int8"),
        (server_pb2.GetInfoResponse(base=same, form=nf4), ["--r", "1"], "it has no slots for adapters"),
    ]:
        with serving(info) as target:
            argv = [*FINETUNE, *ONE_STEP, *flags, "--push", target]
            commands.check(CommandCase(id="T7", argv=argv, says=[target, says], then=learned_nothing))
