"""One cell of what fits what: a family's base in a form, from its training to an adapter's answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.json_format import MessageToDict

from graft.client import Client
from tests.cases.harness.command import Commands
from tests.running import Server, start_server, stop_server

FAMILIES = ("gpt2", "llama", "mistral", "qwen3", "olmo2", "pythia", "smollm", "mixtral")
FORMS = ("nf4", "llm-int8", "int8", "int4", "bf16")
WITH_ADAPTERS, ALONE, REFUSED = "adapters", "base alone", "–"
MAX_MEAN_DIFFERENCE = 0.05
_SIZES = "--hidden-size 128 --num-hidden-layers 2 --num-attention-heads 4 --intermediate-size 256 --num-local-experts 4"
_PRETRAIN = f"{_SIZES} --max-length 128 --vocab-size 400 --max-steps 30 --per-device-train-batch-size 8"
_FINETUNE = "--max-steps 20 --r 4 --per-device-train-batch-size 4 --max-length 64 --learning-rate 0.01"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """`verdict` is one of the three words; `said` is the line by which what does not fit was refused."""

    verdict: str
    said: str = ""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Fills cells, with everything in one folder."""

    commands: Commands

    def pretrain(self, family: str) -> Path:
        folder = self.commands.folder
        text = folder / "text.txt"
        text.write_text(
            "".join(f"The {n} ants carry {n * 7 % 50} leaves; rain comes at {n % 24}.\n" for n in range(3000))
        )
        base = folder / family
        options = ["--text", text, "--output", base, "--work", folder / f"{family}-work", *_PRETRAIN.split()]
        self._works("pretrain", "--family", family, *options)
        return base

    def cell(self, base: Path, form: str) -> Cell:
        """Quantize, serve, fine-tune, push, answer, compare; or a line of refusal before the work is done."""
        made = base
        if form != "bf16":
            made = base.with_name(f"{base.name}-{form}")
            refused = self._quantize(base, form, made)
            if refused:
                assert not made.exists()
                return Cell(verdict=REFUSED, said=refused)
        rows = base.with_name("rows.jsonl")
        examples = [{"prompt": f"{word} -> ", "completion": word.upper()} for word in ("ant", "bee", "cat", "dog")]
        rows.write_text("".join(json.dumps(row) + "\n" for row in examples))
        output = made.with_name(f"{made.name}-{form}-loud")
        options = ["--data", rows, "--name", "loud", "--output", output]
        options += [*_FINETUNE.split(), *(["--no-load-in-4bit"] if form == "bf16" else [])]
        outcome = self.commands.run("finetune", "--base", made, *options, seconds=300)
        if outcome.code == 2:
            self._serve_alone(made, form)
            return Cell(verdict=ALONE, said=_line(outcome.err))
        assert outcome.code == 0, outcome.said[-3000:]
        self._serve_with_adapter(made, form, output / "adapter")
        return Cell(verdict=WITH_ADAPTERS)

    def _quantize(self, base: Path, form: str, made: Path) -> str:
        calibration = ["--calibration", self.commands.folder / "text.txt"] if form == "int4" else []
        outcome = self.commands.run("quantize", base, "--form", form, "--output", made, *calibration, seconds=300)
        assert outcome.code in (0, 2), outcome.said[-3000:]
        return _line(outcome.err) if outcome.code else ""

    def _serve_alone(self, base: Path, form: str) -> None:
        server = self._server(base, form, num_slots=0)
        try:
            with Client(server.grpc) as client:
                assert client.generate("The 7 ants", max_tokens=8, ignore_eos=True).text
        finally:
            assert stop_server(server) == 0

    def _serve_with_adapter(self, base: Path, form: str, adapter: Path) -> None:
        server = self._server(base, form, num_slots=2)
        try:
            with Client(server.grpc) as client:
                client.push_adapter(adapter, name="loud", alias="stable")
                reply = client.generate("bee -> ", model="loud", max_tokens=4)
                assert reply.answerer.adapter == "loud"
                version = client.get_version("loud", 1)
                receipts = [MessageToDict(one.body) for one in version.records if one.kind == "parity_receipt"]
                assert receipts and receipts[0]["mean_abs_delta"] <= MAX_MEAN_DIFFERENCE
                assert receipts[0]["form"] == receipts[0]["reference_form"] == form
        finally:
            assert stop_server(server) == 0

    def _server(self, base: Path, form: str, *, num_slots: int) -> Server:
        folder = base.with_name(f"{base.name}-{form}-server")
        folder.mkdir()
        flags = ["--base", str(base), "--num-slots", str(num_slots), "--max-rank", "8"]
        return start_server(folder, *flags, *(["--quantization", "bf16"] if form == "bf16" else []))

    def _works(self, *argv: object) -> None:
        outcome = self.commands.run(*argv, seconds=300)
        assert outcome.code == 0, outcome.said[-3000:]


def table(cells: Mapping[tuple[str, str], Cell], families: Sequence[str], forms: Sequence[str]) -> str:
    """As Markdown, with what was said once per line under it."""
    lines = [f"| family | {' | '.join(forms)} |", f"| --- |{' --- |' * len(forms)}"]
    for family in families:
        lines.append(f"| {family} | {' | '.join(cells[family, form].verdict for form in forms)} |")
    said = {cell.said: f"{family}, {form}" for (family, form), cell in reversed(cells.items()) if cell.said}
    return "\n".join([*lines, "", *(f"- {where}: {line}" for line, where in said.items())])


def _line(said: str) -> str:
    """The one line of a refusal; bars of progress and warnings of libraries are none."""
    (line,) = [line for line in said.splitlines() if line.startswith("graft ")]
    return line.partition(": ")[2]
