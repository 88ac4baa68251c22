"""A base model: one frozen model, known by the digests of its weights, tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from graft.adapters.adapter import BaseIdentity
from graft.adapters.base import files as base_files
from graft.adapters.base.files import BaseFiles
from graft.adapters.base.hub import Hub
from graft.adapters.base.hub_id import HubId
from graft.adapters.base.linear_modules import linear_modules
from graft.adapters.base.quantized import QuantizedRecord
from graft.adapters.digest import digest_prefix, unique_match
from graft.adapters.errors import InvalidBase, NotFound, Reason
from graft.adapters.form import ServingForm


class KnownBase(Protocol):
    """What `find_base` needs to know of a registered base."""

    @property
    def identity(self) -> BaseIdentity: ...
    @property
    def path(self) -> Path: ...


@dataclass(frozen=True, kw_only=True)
class Base:
    """One frozen model.

    `modules` maps the path of every linear module to (out_features, in_features), taken from the safetensors
    headers; `size_bytes` is the weights' size on disk; `embedding_width` that of a token's embedding, None where no
    table of them has a known name. `form` is the form in which the folder's weights already are, None for plain ones; a
    folder that `graft quantize` made has the identity and the modules of its origin.
    """

    identity: BaseIdentity
    architecture: str
    modules: Mapping[str, tuple[int, int]]
    vocab_size: int
    embedding_width: int | None
    num_parameters: int
    size_bytes: int
    path: Path
    form: ServingForm | None = None

    @classmethod
    def from_folder(cls, path: Path | str, name: str | None = None, *, cache_dir: Path | None = None) -> Base:
        """Read the base in the Hugging Face folder `path`; nothing is mapped into memory.

        `name` defaults to the origin's name for a quantized base, else to the repository's of a hub, else to the
        folder's. `cache_dir` keeps the hashes of big weight files between runs. Raises InvalidBase listing all that is
        missing, broken or was changed.
        """
        path = Path(path).resolve()
        files = base_files.read(path)
        record = QuantizedRecord.read(path)
        if record is not None:
            return cls._quantized(path, files, record, name, cache_dir)
        linear = linear_modules(files.tensors, files.packed)
        on_hub = HubId.of_folder(path)
        identity = BaseIdentity(
            name=name or (path.name if on_hub is None else on_hub.repository),
            weights_digest=base_files.weights_digest(path, cache_dir=cache_dir),
            tokenizer_digest=base_files.tokenizer_digest(path),
            chat_template_digest=base_files.chat_template_digest(path),
            config_digest=files.config_digest,
        )
        return cls(
            identity=identity,
            architecture=files.architecture,
            modules=linear.shapes,
            vocab_size=files.vocab_size,
            embedding_width=files.embedding_width,
            num_parameters=linear.num_parameters,
            size_bytes=files.size_bytes,
            path=path,
            form=files.form,
        )

    @classmethod
    def _quantized(
        cls, path: Path, files: BaseFiles, record: QuantizedRecord, name: str | None, cache_dir: Path | None
    ) -> Base:
        reasons = record.differences(
            base_files.recorded_hashes(path, cache_dir=cache_dir),
            base_files.tokenizer_digest(path),
            base_files.chat_template_digest(path),
        )
        if files.form != record.form:
            problem = f"says {record.form}, but config.json says {files.form or 'plain weights'}"
            reasons.append(Reason(field="graft_base.json:form", problem=problem))
        if reasons:
            raise InvalidBase(f"{path} is not a usable base", reasons)
        return cls(
            identity=replace(record.base, name=name or record.base.name),
            architecture=files.architecture,
            modules=MappingProxyType(dict(record.modules)),
            vocab_size=files.vocab_size,
            embedding_width=files.embedding_width,
            num_parameters=record.num_parameters,
            size_bytes=files.size_bytes,
            path=path,
            form=record.form,
        )

    @property
    def name(self) -> str:
        """What clients call it."""
        return self.identity.name

    @property
    def digest(self) -> str:
        """The digest of its identity."""
        return self.identity.digest


def shipped_bases() -> dict[str, Path]:
    """The bases that lie in this package as data, by name; empty when none was built."""
    folder = Path(str(resources.files("graft.adapters.base").joinpath("shipped")))
    if not folder.is_dir():
        return {}
    return {path.name: path for path in sorted(folder.iterdir()) if (path / "config.json").is_file()}


def find_base(reference: str, registered: Iterable[KnownBase] = (), *, hub: Hub | None = None) -> Path:
    """The folder of the base called `reference`: a name, a digest (or 8 or more of its digits), a folder, or where
    `hub` is given, a model of it (`organisation/name`, or with `@revision`), which may have to be fetched.

    A folder comes before a model of the hub. Raises NotFound naming the bases that there are or saying why the hub does
    not give it, InvalidBase when a shipped base is broken, StoreFull.
    """
    shipped = shipped_bases()
    known = list(registered)
    by_name = {base.identity.name: Path(base.path) for base in known} | shipped
    folder, on_hub = Path(reference).expanduser(), HubId.parse(reference)
    if on_hub is not None and hub is not None:
        if not folder.is_dir():
            before = HubId.of_folder(by_name.get(on_hub.repository, folder))
            return hub.model(on_hub, recorded=None if before is None else before.revision)
        hub.say_shadowed(on_hub)
        return _folder(folder)
    if reference in by_name:
        return by_name[reference]
    prefix = digest_prefix(reference)
    if prefix is not None:
        of_shipped = [(Base.from_folder(path), path) for path in shipped.values()]
        every: list[tuple[KnownBase, Path]] = [*((base, Path(base.path)) for base in known), *of_shipped]
        by_digest = {base.identity.digest_without_config: path for base, path in every}
        by_digest |= {base.identity.digest: path for base, path in every}
        return by_digest[unique_match(prefix, set(by_digest), what="base")]
    if folder.is_dir():
        return _folder(folder)
    names = ", ".join(sorted(by_name)) or "none"
    raise NotFound(
        f"no base is called {reference!r}, and no such folder exists; bases known by name: {names}; one of a model hub "
        "is called organisation/name or organisation/name@revision"
    )


def _folder(folder: Path) -> Path:
    if not (folder / base_files.CONFIG).is_file():
        raise InvalidBase(f"{folder} is not a base", [Reason(field=base_files.CONFIG, problem="is missing")])
    return folder.resolve()
