"""A grid of small trainings, one folder each: what is finished is not trained again."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import torch

from graft.adapters.digest import digest_of_json
from graft.training.batch.text_rows import PackedText, TextRows
from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.errors import DataError
from graft.training.loop.held_out import HeldOut
from graft.training.loop.optim import Schedule, adamw
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.model.casting import cast
from graft.training.model.cost.flops import num_multiplied
from graft.training.parallel.layout import Alone
from graft.training.pretrain import text
from graft.training.pretrain.assembly import Assembly
from graft.training.pretrain.settings import PretrainSettings
from graft.training.runtime.device import device_kind
from graft.training.runtime.disk import replace_text
from graft.training.scaling.laws import Point

LENGTH, ROWS, VOCABULARY, HEAD = 128, 8, 512, 32
"""Few rows a step: small budgets are then many steps, and what limits a training is its text, not its optimizer."""
HELD_OUT = 0.05
"""Of the documents."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training: a Llama of this width on so many tokens."""

    width: int
    tokens: int

    @property
    def num_layers(self) -> int:
        return max(2, self.width // 40)

    @property
    def name(self) -> str:
        return f"width-{self.width}-tokens-{self.tokens}"


ANY = Cell(width=HEAD, tokens=1)
"""For what does not depend on it."""


class Grid:
    """Trainings on the same documents, in one order, each seeing them from the beginning and once at most."""

    def __init__(self, documents: Sequence[str], folder: Path, *, seed: int = 0) -> None:
        shuffled = list(documents)
        Random(seed).shuffle(shuffled)
        num_held_out = math.ceil(len(shuffled) * HELD_OUT)
        self._held_out, self._train = shuffled[:num_held_out], shuffled[num_held_out:]
        if not self._train:
            raise DataError(f"{len(shuffled)} documents are too few to hold some out: give more text.")
        self._folder, self._seed = folder, seed
        self._claim(digest_of_json({"documents": shuffled, "seed": seed, "recipe": [LENGTH, ROWS, VOCABULARY, HEAD]}))
        self._tokenizer = train_tokenizer(self._train, vocab_size=VOCABULARY, context_tokens=LENGTH)

    @cached_property
    def _data(self) -> PackedText | TextRows:
        """The same for every cell."""
        return text.rows(self._assembly(ANY), self._train)

    @cached_property
    def _measure(self) -> HeldOut:
        return text.held_out(self._assembly(ANY), self._held_out)

    def _claim(self, digest: str) -> None:
        """Points of another text are not this one's."""
        marker = self._folder / "grid"
        if marker.exists() and marker.read_text(encoding="utf-8") != digest:
            raise DataError(f"{self._folder} holds trainings on another text: choose another --folder.")
        self._folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(digest, encoding="utf-8")

    def check(self, cells: Sequence[Cell]) -> None:
        """Raises, before anything is trained, ``ConfigurationError`` for a width that makes no model, ``DataError``
        where the text has not so many tokens as one wants.
        """
        for cell in cells:
            self._assembly(cell).skeleton()
        has, wanted = self._data.num_rows * LENGTH, max(cell.tokens for cell in cells)
        if wanted > has:
            raise DataError(
                f"the text has {has} tokens to train on, and {wanted} were asked for: give more text, or take fewer."
            )

    def point(self, cell: Cell) -> Point:
        """Trains, or reads what was found before."""
        path = self._folder / cell.name / "point.json"
        if path.exists():
            return Point(**json.loads(path.read_text(encoding="utf-8")))
        point = self._trained(cell)
        replace_text(path, json.dumps(asdict(point)))
        return point

    def _trained(self, cell: Cell) -> Point:
        assembly = self._assembly(cell)
        num_steps = max(1, cell.tokens // (ROWS * LENGTH))
        device = device_kind()
        model = assembly.model()
        parameters = num_multiplied(model)
        cast(model, torch.bfloat16, device)
        optimizers = adamw(weight_decay=0.1, betas=(0.9, 0.95))
        Run(
            step=Step(model, objective=assembly.objective(), optimizers=optimizers, layout=Alone(device)),
            data=self._data,
            schedule=Schedule(num_steps=num_steps, warmup_steps=min(50, max(1, num_steps // 4)), floor=0.1),
            # Narrow models take larger steps (Kaplan et al. 2020, appendix D.6).
            learning_rate=1.2e-3 * math.sqrt(128 / cell.width),
            folder=self._folder / cell.name,
            saves=False,
        ).execute()
        loss = self._measure.measure(model, Alone(device))["validation_loss"]
        return Point(parameters=parameters, tokens=num_steps * ROWS * LENGTH, loss=loss)

    def _assembly(self, cell: Cell) -> Assembly:
        settings = PretrainSettings(
            hidden_size=cell.width,
            num_hidden_layers=cell.num_layers,
            num_attention_heads=max(1, cell.width // HEAD),
            max_length=LENGTH,
            per_device_train_batch_size=ROWS,
            seed=self._seed,
        )
        return Assembly.of(settings, self._tokenizer)
