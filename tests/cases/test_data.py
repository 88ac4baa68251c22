"""Cases of data: what files hold is what is learned, or refused by file and line before anything is written."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.loop.progress import METRICS
from graft.training.objective.span_corruption import num_sentinels
from tests.cases.harness.command import CommandCase, Commands

SMALL = [
    *("pretrain", "--output", "{folder}/base", "--work", "{folder}/work", "--max-steps", "2"),
    *("--hidden-size", "64", "--num-hidden-layers", "2", "--num-attention-heads", "2", "--max-length", "32"),
    *("--per-device-train-batch-size", "1"),
]
QUANTIZE = ["quantize", "rootstock-5m", "--form", "int4", "--output", "{folder}/out", "--calibration"]
SCALING = ["scaling", "fit", "--folder", "{folder}/fit", "--text"]
WORDS = "some words that make a text of two sentences. "
SHARED = "A line that stands in both of the texts.\n"
CODE = "def double(x):\n    if x:\n\n        return 2 * x\n" * 8
GOOD = '{"prompt": "a", "completion": "b"}\n'
ROW = json.dumps({"text": WORDS * 4}) + "\n"


def pretrain(name: str, *flags: str, vocabulary: int = 400) -> list[str]:
    return [*SMALL, "--text", "{folder}/" + name, "--vocab-size", str(vocabulary), *flags]


def finetune(name: str) -> list[str]:
    return ["finetune", "--data", "{folder}/" + name, "--name", "one", "--output", "{folder}/one", "--max-steps", "1"]


def files(**contents: str | bytes) -> Callable[[Path], None]:
    """Files by their names, in which `__` stands for a dot."""

    def prepare(folder: Path) -> None:
        for name, content in contents.items():
            data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
            (folder / name.replace("__", ".")).write_bytes(data)

    return prepare


def no_folder(folder: Path) -> None:
    assert not [path for path in folder.iterdir() if path.is_dir()]


def nothing_begun(folder: Path) -> None:
    assert not (folder / "work").exists() and not (folder / "base").exists()


def holds(name: str, text: str) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        assert text in (folder / name).read_text(encoding="utf-8")

    return check


def learned(*texts: str) -> Callable[[Path], None]:
    """Afterwards the base's tokenizer spells and the digest of its data stand for what was read."""

    def check(folder: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder / "base")
        vocabulary = set(tokenizer.get_vocab())
        assert not any("\ufeff" in tokenizer.convert_tokens_to_string([token]) for token in vocabulary)
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert len(ids) < len(text) / 2, f"{text!r} is spelled in letters: it was not in the text"

    return check


def asks_in_some_steps(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "work" / METRICS).read_text().splitlines()]
    assert {row["supervised_tokens"] > 0 for row in rows} == {True, False}


def sentinels(folder: Path) -> None:
    files(text__jsonl=ROW * 40)(folder)
    train_tokenizer([WORDS] * 3, vocab_size=400, context_tokens=32, num_sentinels=num_sentinels(32)).save_pretrained(
        folder / "tokenizer"
    )


def no_path(folder: Path) -> None:
    """R1: nothing of what is pushed tells where it was made."""
    for path in (folder / "base").rglob("*"):
        assert path.is_dir() or str(folder).encode() not in path.read_bytes(), path
    origin = json.loads((folder / "base" / "training.json").read_text())
    assert origin["settings"]["text"] == ["text.jsonl"] and origin["settings"]["validation"] == "held_out.txt"
    assert origin["data"][0]["file"] == "text.jsonl" and origin["validation"][0]["digest"].startswith("sha256:")
    assert origin["folders"]["tokenizer"]["name"] == "tokenizer"


def path_files(folder: Path) -> None:
    files(text__jsonl=ROW * 40, held_out__txt="Other words stand here, and they are quite long. " * 9)(folder)
    train_tokenizer([WORDS] * 3, vocab_size=400, context_tokens=32).save_pretrained(folder / "tokenizer")


READING = [
    CommandCase(
        id="T14 JSON lines with U+2028 and U+0085",
        argv=pretrain("text.jsonl"),
        prepare=files(text__jsonl=f'{{"text": "{WORDS * 9}\u2028next\x85line"}}\r\n' * 9),
        code=0,
        then=learned(WORDS),
    ),
    *(
        CommandCase(
            id=f"T14 a byte-order mark before {name}",
            argv=pretrain(name),
            prepare=files(**{name.replace(".", "__"): "\ufeff" + content}),
            code=0,
            then=learned(WORDS),
        )
        for name, content in (("t.jsonl", ROW * 30), ("t.txt", WORDS * 30), ("t.json", "[" + ROW * 1 + "]"))
    ),
    *(
        CommandCase(
            id=f"T14 a byte-order mark before settings in {name}",
            argv=pretrain("t.txt", "--config", "{folder}/" + name),
            prepare=files(t__txt=WORDS * 30, **{name.replace(".", "__"): "\ufeff" + content}),
            code=0,
        )
        for name, content in (("s.toml", "seed = 3\n"), ("s.JSON", '{"seed": 3}'), ("s.yaml", "seed: 3\n"))
    ),
    CommandCase(
        id="T14 bad lines of several files",
        argv=pretrain("t.jsonl,{folder}/t.txt,{folder}/t.csv"),
        prepare=files(t__jsonl=ROW + "{\n", t__txt=b"\xff", t__csv=""),
        says=["t.jsonl, line 2: broken JSON", "t.txt, line 1: byte 1 is not UTF-8", "'.csv' is no known kind of text"],
        then=no_folder,
    ),
    CommandCase(
        id="T14 settings that are no text",
        argv=pretrain("t.txt", "--config", "{folder}/s.toml"),
        prepare=files(t__txt=WORDS * 30, s__toml=b"seed = 3\nname = '\xff'\n"),
        says=["s.toml, line 2: byte 9 is not UTF-8; save the file as UTF-8"],
        then=no_folder,
    ),
    *(
        CommandCase(
            id=f"T14 half a surrogate pair and more bad lines, {command[0]}",
            argv=command,
            prepare=files(t__jsonl=good + bad + good + "{torn\n"),
            says=["t.jsonl, line 2: ", "half a surrogate pair (\\ud83d) at position 3", "t.jsonl, line 4: broken JSON"],
            then=no_folder,
        )
        for command, good, bad in (
            (pretrain("t.jsonl"), ROW, '{"text": "ab\\ud83d"}\n'),
            (finetune("t.jsonl"), GOOD, '{"prompt": "a", "completion": "ab\\ud83d"}\n'),
            (
                [*QUANTIZE, "{folder}/t.jsonl"],
                ROW,
                '{"text": "ab\\ud83d"}\n',
            ),
            ([*SCALING, "{folder}/t.jsonl"], ROW, '{"text": "ab\\ud83d"}\n'),
        )
    ),
    CommandCase(
        id="T15 code keeps its indentation",
        argv=pretrain("t.txt"),
        prepare=files(t__txt=CODE),
        code=0,
        then=learned("\n\n        return"),
    ),
    *(
        CommandCase(
            id=f"T15 {name}",
            argv=pretrain(name),
            prepare=files(**{name.replace(".", "__"): data}),
            code=0,
            then=learned(WORDS),
        )
        for name, data in (
            ("t.ndjson", ROW * 30),
            ("t.JSONL", ROW * 30),
            ("t.json", "[" + ",\n".join([ROW] * 30) + "]"),
            ("t.md", WORDS * 60),
            ("t.jsonl.gz", gzip.compress((ROW * 30).encode())),
        )
    ),
    *(
        CommandCase(
            id=f"T15 {name} is refused",
            argv=pretrain(name),
            prepare=files(**{name.replace(".", "__"): data}),
            says=says,
            then=no_folder,
        )
        for name, data, says in (
            ("t.csv", "a,b\n", ["t.csv: '.csv' is no known kind of text; use .txt or .jsonl"]),
            ("t.txt.gz", gzip.compress(gzip.compress(b"x")), ["t.txt.gz is compressed twice"]),
            ("t.json", '{"examples": []}', ['t.json, line 1: must be an object with "text"']),
        )
    ),
    *(
        CommandCase(
            id=f"B4 {what}",
            argv=finetune("t.jsonl"),
            prepare=files(t__jsonl=GOOD * 2 + bad),
            says=["t.jsonl, line 3: ", says],
            then=no_folder,
        )
        for what, bad, says in (
            ("a torn line", GOOD[:20], "broken JSON"),
            ("a line of 10 MB", '{"prompt": "' + "a" * 10_000_000 + '", "completion": "b"}', "bytes in one row"),
            ("a NUL", '{"prompt": "a\\u0000", "completion": "b"}', "NUL character"),
            ("a wrong role", '{"messages": [{"role": "robot", "content": "q"}]}', "role 'robot'"),
        )
    ),
    CommandCase(
        id="B4 a byte-order mark",
        argv=["corpus", "sst2", "--data", "{folder}/t.tsv", "--output", "{folder}/rows.jsonl"],
        prepare=files(t__tsv="\ufeffgood\u2028film\t1\r\nbad film\t0\r\n"),
        code=0,
        then=holds("rows.jsonl", '? good\u2028film"'),
    ),
]

LEARNING = [
    *(
        CommandCase(
            id=f"T16 short rows, {family} {objective}",
            argv=pretrain("t.jsonl", "--family", family, "--objective", objective, "--max-steps", "12"),
            prepare=files(t__jsonl='{"text": "ok then"}\n' * 300),
            code=0,
        )
        for family, objective in (
            ("bert", "masked"),
            ("roberta", "masked"),
            ("albert", "masked"),
            ("bert", "span_boundary"),
        )
    ),
    CommandCase(
        id="T16 a step without a question is passed over",
        argv=pretrain("t.jsonl", "--family", "xlnet", "--max-steps", "12"),
        prepare=files(t__jsonl=('{"text": "ok"}\n' + ROW) * 20),
        code=0,
        then=asks_in_some_steps,
    ),
    CommandCase(
        id="T16 a corpus that can never ask",
        argv=pretrain("t.jsonl", "--family", "xlnet"),
        prepare=files(t__jsonl='{"text": "ok then"}\n' * 300),
        says=["the text never asks for tokens, which permutation learns from: its documents are too short"],
        then=no_folder,
    ),
    CommandCase(
        id="T16 a validation text that asks nothing",
        argv=pretrain("t.jsonl", "--family", "xlnet", "--validation", "{folder}/v.txt"),
        prepare=files(t__jsonl=ROW * 20, v__txt="ok"),
        says=["the validation text never asks for tokens"],
        then=no_folder,
    ),
    CommandCase(
        id="T17 a single document",
        argv=pretrain("t.txt", "--family", "bert", "--objective", "next_sentence"),
        prepare=files(t__txt=WORDS * 60),
        says=["next_sentence takes wrong second sentences from another document, and the text is a single one"],
        then=no_folder,
    ),
    CommandCase(
        id="T17 a single document to measure on",
        argv=pretrain("t.jsonl", "--family", "bert", "--objective", "next_sentence", "--validation", "{folder}/v.txt"),
        prepare=files(t__jsonl=ROW * 20, v__txt=WORDS * 9),
        says=["from another document, and the validation text is a single one"],
        then=no_folder,
    ),
    *(
        CommandCase(
            id=f"T19 {family} of 2,048 tokens, {'plan' if plan else 'training'}",
            argv=pretrain(
                *("text.jsonl", "--family", family, "--objective", "span_corruption", "--max-length", "2048"),
                *("--tokenizer", "{folder}/tokenizer", *plan),
            ),
            prepare=sentinels,
            says=["max_length is 2048, and the tokenizer's 100 sentinels (<extra_id_0> …) are enough for rows of 2"],
            silent=["mean_span"],
            then=nothing_begun,
        )
        for family, plan in (("t5", ()), ("bart", ()), ("t5", ("--plan",)))
    ),
    CommandCase(
        id="R1 no path leaves the machine",
        argv=pretrain("text.jsonl", "--validation", "{folder}/held_out.txt", "--tokenizer", "{folder}/tokenizer"),
        prepare=path_files,
        code=0,
        then=no_path,
    ),
    CommandCase(
        id="reading 23 a validation text that was trained on",
        argv=pretrain("t.txt", "--validation", "{folder}/v.txt"),
        prepare=files(t__txt=SHARED * 40, v__txt=SHARED * 9),
        code=0,
        says=["100.0 % of", "v.txt stands in the training text, too"],
        then=holds("base/README.md", "of which 100.0% stands in what it was trained on"),
    ),
]


@pytest.mark.parametrize("case", [*READING, *LEARNING], ids=str)
def test_commands(case: CommandCase, commands: Commands) -> None:
    commands.check(case)


def test_an_epoch_with_a_rising_batch_reads_every_row_once(commands: Commands) -> None:
    """R6: 1,000 rows in steps of 1, 2, … 8 micro-batches are far more steps than 1,000 / 8 / 16."""
    files(text__jsonl=json.dumps({"text": "ab " * 40}) + "\n")(commands.folder)
    path = commands.folder / "text.jsonl"
    path.write_text(path.read_text() * 60)
    argv = [word.replace("{folder}", str(commands.folder)) for word in pretrain("text.jsonl")]
    argv[argv.index("--max-steps") : argv.index("--max-steps") + 2] = ["--num-train-epochs", "1"]
    outcome = commands.run(*argv, "--batch-warmup-steps", "500", "--gradient-accumulation-steps", "8", "--plan")
    assert outcome.code == 0, outcome.said
    epochs = float(outcome.out.split(" epochs of the text")[0].split()[-1])
    assert 1.0 <= epochs < 1.2, outcome.out
