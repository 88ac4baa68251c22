"""Who teaches a training by its next-token distribution: a base, or a base with an adapter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from peft import PeftModel
from torch import nn

from graft.adapters.base.base import Base, find_base
from graft.adapters.base.hub import Hub
from graft.adapters.base.numbers import check_numbers
from graft.adapters.digest import digest_of_json, sha256_of_file
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.training.adapt.attending import circumstances
from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError, first_line
from graft.training.model.configuration import num_positions
from graft.training.model.loading import load_base, load_tokenizer
from graft.training.model.structure import empty_decoder, leftovers
from graft.training.objective.attending import choose_attention
from graft.training.objective.packable import check_causal, check_packing
from graft.training.runtime.device import own_device

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def absolute_reference(text: str) -> str:
    """The same from every folder."""
    parts = [Path(part).expanduser() for part in text.split(",", 1)]
    return ",".join(str(one.absolute()) if one.is_dir() else str(one) for one in parts)


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """``form`` is in which its base is held: as its adapter was trained on it, else as its folder holds it, bf16 where
    that is plain.
    """

    base: Base
    adapter: Path | None
    form: ServingForm

    @classmethod
    def of(cls, text: str) -> Self:
        """From ``BASE`` or ``BASE,ADAPTER``, the latter a folder. Raises ``ConfigurationError``, ``NotFound``,
        ``InvalidBase``, ``InvalidAdapter``.
        """
        name, _, folder = text.partition(",")
        base, adapter, form = Base.from_folder(find_base(name, hub=Hub())), None, None
        if folder:
            adapter = Path(folder).expanduser()
            if missing := [one for one in (_CONFIG, _WEIGHTS) if not (adapter / one).is_file()]:
                raise ConfigurationError(f"teacher {text}: {adapter} is no adapter, it has no {missing[0]}.")
            record = TrainedRecord.read(adapter)
            if record is not None and record.base.digest != base.digest:
                raise ConfigurationError(
                    f"teacher {text}: the adapter was trained on {record.base.name} ({record.base.digest}), not on "
                    f"{base.name} ({base.digest})."
                )
            form = None if record is None else record.form
        return cls(base=base, adapter=adapter, form=base.form or form or ServingForm.BF16)

    @property
    def digest(self) -> str:
        """Of all that decides what it says."""
        own = (
            {} if self.adapter is None else {name: sha256_of_file(self.adapter / name) for name in (_CONFIG, _WEIGHTS)}
        )
        return digest_of_json([self.base.digest, self.form.value, own])

    def check(self, student: Base, *, longest: int) -> None:
        """``longest`` are the tokens of the longest row. Raises ``ConfigurationError`` with every reason why it cannot
        teach this base, and ``InvalidBase`` where its weights are not finite.
        """
        shape = empty_decoder(self.base)
        if reasons := list(self._reasons(student, num_positions(shape.config), longest)):
            raise ConfigurationError(f"{self.base.name} cannot teach {student.name}: {'; '.join(reasons)}.")
        check_numbers(self.base.path, leftovers=leftovers(self.base, shape))

    def _reasons(self, student: Base, positions: int | None, longest: int) -> Iterator[str]:
        own, its = self.base.vocab_size, student.vocab_size
        if own != its:
            yield f"its vocabulary has {own} entries, the other {its}"
        elif load_tokenizer(self.base.path).get_vocab() != load_tokenizer(student.path).get_vocab():
            yield "its tokenizer names other tokens; take two bases of one family"
        if positions is not None and longest > positions:
            yield f"it has {positions} positions, and the longest row {longest} tokens"

    def load(self, settings: AdaptSettings, *, device: str, packing: bool) -> nn.Module:
        """Frozen, on a device. Raises ``ConfigurationError``."""
        model: nn.Module = load_base(self.base.path, self.form, device=own_device(device))
        if self.adapter is not None:
            try:
                model = PeftModel.from_pretrained(model, str(self.adapter))
            except (ValueError, RuntimeError, KeyError, OSError) as error:
                raise ConfigurationError(
                    f"the teacher's adapter {self.adapter} does not fit {self.base.name}: {first_line(error)}"
                ) from None
        check_causal(model)
        if packing:
            check_packing(model)
        choose_attention(model, settings.attn_implementation, circumstances(settings, True, device))
        return model.requires_grad_(False).eval()
