"""The one way in: a folder of files becomes a version of an adapter, or is refused with all reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from graft.adapters.adapter import UNKNOWN_LINEAGE, AdapterVersion, Provenance
from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.versions import Draft
from graft.adapters.compatibility import Limits, incompatibilities
from graft.adapters.errors import IncompatibleAdapter, InvalidAdapter, Reason
from graft.adapters.folder.head import record_reasons
from graft.adapters.folder.manifest import Manifest, read_manifest
from graft.adapters.folder.numbers import inspect_numbers
from graft.adapters.folder.record import TRAINED_FILE, TrainedRecord
from graft.adapters.folder.reference import FILE_NAME as REFERENCE_FILE
from graft.adapters.folder.reference import Reference
from graft.adapters.form import ServingForm
from graft.adapters.names import check_adapter_name
from graft.adapters.store.store import BlobStore

OTHER_FORM_RECORD = "allow_other_quantization"
"""Kind of the record that allows a version to be served on another form than it was trained on."""
NOOP_RECORD = "allow_noop"
"""Kind of the record that allows a version to be served although it changes nothing."""


def accept_folder(
    folder: Path,
    *,
    catalog: Catalog,
    store: BlobStore,
    base: Base,
    serving_form: ServingForm,
    limits: Limits,
    tenant: str,
    adapter: str,
    allow_noop: bool = False,
    allow_other_quantization: bool = False,
    request_id: str | None = None,
    sha256: Mapping[str, str] | None = None,
    passed: Callable[[str], None] = lambda digest: None,
) -> AdapterVersion:
    """Check the adapter in `folder`, store its files, and register it as a version of `adapter`.

    The base comes from graft.json when the folder has one; a folder without was made for `base`, held as
    `serving_form`: so its importer states by sending it. `sha256` gives the files' hashes (by name) for a folder that
    is the caller's alone: it is taken away, to be served from. `passed` is told the version's digest when all checks
    are passed and the registration is still to come. On an error nothing is visible.
    Raises InvalidAdapter, IncompatibleAdapter, InvalidReference, NotFound, Conflict, StoreFull, StoreUnavailable,
    CatalogUnavailable.
    """
    folder = Path(folder)
    check_adapter_name(adapter)
    manifest = read_manifest(folder, sha256=sha256)
    trained = TrainedRecord.read(folder)
    _check(
        folder,
        manifest,
        trained,
        base=base,
        serving_form=serving_form,
        limits=limits,
        allow_noop=allow_noop,
        allow_other_quantization=allow_other_quantization,
    )
    form = trained.form if trained else serving_form
    draft = Draft(
        tenant=tenant,
        adapter=adapter,
        base=trained.base if trained else base.identity,
        form=form,
        rank=max(manifest.rank, *manifest.rank_pattern.values(), 0),
        alpha=manifest.alpha,
        target_modules=manifest.target_modules,
        num_virtual_tokens=manifest.num_virtual_tokens,
        num_labels=manifest.num_labels,
        files=manifest.files,
        provenance=trained.provenance if trained else Provenance.DECLARED,
        lineage=trained.lineage if trained else UNKNOWN_LINEAGE,
        records=_permissions(form, serving_form, allow_noop, allow_other_quantization),
    )
    passed(draft.digest())
    _store(folder, manifest, store, sha256)
    version = catalog.register_version(draft, request_id=request_id)
    if store.lacks(version):
        # A collector on another machine may have seen the old blob just before it was stored again.
        _store(folder, manifest, store, sha256)
    if sha256 is not None:
        store.keep(version, folder)
    return version


def _check(
    folder: Path,
    manifest: Manifest,
    trained: TrainedRecord | None,
    *,
    base: Base,
    serving_form: ServingForm,
    limits: Limits,
    allow_noop: bool,
    allow_other_quantization: bool,
) -> None:
    """Raise with every reason against the adapter, from its numbers and from the base and limits together."""
    numbers = inspect_numbers(folder, manifest)
    broken = [
        *numbers.reasons,
        *_reference_reasons(folder, trained, vocab_size=base.vocab_size),
        *record_reasons(folder, manifest.num_labels),
    ]
    reasons = [
        *broken,
        *incompatibilities(
            manifest,
            base,
            limits,
            declared_base=trained.base if trained else None,
            form=trained.form if trained else serving_form,
            serving_form=serving_form,
            is_noop=numbers.is_noop,
            allow_noop=allow_noop,
            allow_other_quantization=allow_other_quantization,
        ),
    ]
    if broken:
        raise InvalidAdapter("the adapter's numbers are broken", reasons)
    if reasons:
        raise IncompatibleAdapter(f"the adapter does not fit the base {base.name}", reasons)


def _permissions(
    form: ServingForm, serving_form: ServingForm, allow_noop: bool, allow_other_quantization: bool
) -> dict[str, dict[str, object]]:
    """What its sender allowed, recorded with the version: servers on the same catalog go by it, too."""
    records: dict[str, dict[str, object]] = {}
    if allow_other_quantization and form != serving_form:
        records[OTHER_FORM_RECORD] = {"form": serving_form.value}
    if allow_noop:
        records[NOOP_RECORD] = {}
    return records


def _reference_reasons(folder: Path, trained: TrainedRecord | None, *, vocab_size: int) -> Sequence[Reason]:
    """What is wrong with reference.json, alone and beside graft.json; nothing where there is none."""
    try:
        reference = Reference.read(folder, vocab_size=vocab_size)
    except InvalidAdapter as error:
        return error.reasons
    if reference is None:
        return ()
    if trained is None:
        problem = f"stands without {TRAINED_FILE}, which says on which base it was recorded"
        return [Reason(field=REFERENCE_FILE, problem=problem, remedy="send both files or neither")]
    if reference.form != trained.form:
        problem = f"was recorded on the base as {reference.form}; {TRAINED_FILE} says {trained.form}"
        return [Reason(field=f"{REFERENCE_FILE}:form", problem=problem, remedy="train again or remove the file")]
    return ()


def _store(folder: Path, manifest: Manifest, store: BlobStore, sha256: Mapping[str, str] | None) -> None:
    files = store.put_files(folder, [file.name for file in manifest.files], sha256=sha256)
    changed = [new.name for old, new in zip(manifest.files, files, strict=True) if old != new]
    if changed:
        # What was checked is not what was stored. The blobs are collected later; no version refers to them.
        reasons = [Reason(field=name, problem="changed while it was read") for name in changed]
        raise InvalidAdapter("the adapter's files changed during the import", reasons)
