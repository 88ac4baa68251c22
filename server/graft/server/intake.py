"""How adapters come in: by upload, or from a folder of the server's disk below an allowed root."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.adapters.adapter import AdapterVersion
from graft.adapters.base import Base
from graft.adapters.catalog import Catalog
from graft.adapters.compatibility import Limits
from graft.adapters.errors import InvalidAdapter, Reason
from graft.adapters.form import ServingForm
from graft.adapters.importing import accept_folder
from graft.adapters.staging import Staging
from graft.adapters.store import BlobStore
from graft.server.errors import Forbidden
from graft.server.registry import NOOP_RECORD, OTHER_FORM_RECORD, Registry


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """What the sender said is meant: an adapter that changes nothing; another form than it was trained on."""

    noop: bool
    other_form: bool


@dataclass(frozen=True, kw_only=True)
class DeclaredFile:
    """A file as its sender announces it; `sha256` is 64 hex digits."""

    name: str
    size_bytes: int
    sha256: str


class Intake:
    """Checks, stores and registers. Nothing of a refused adapter stays visible."""

    def __init__(
        self,
        *,
        registry: Registry,
        store: BlobStore,
        staging: Staging,
        base: Base,
        form: ServingForm,
        limits: Limits,
        max_adapter_bytes: int,
        import_roots: Sequence[Path],
        prepare: Callable[[str, Path], None],
    ) -> None:
        """`prepare` is told in a thread of an upload that passed its checks: digest and folder, not registered yet."""
        self._registry = registry
        self._store = store
        self._staging = staging
        self._base = base
        self._form = form
        self._limits = limits
        self._max_adapter_bytes = max_adapter_bytes
        self._import_roots = tuple(root.resolve() for root in import_roots)
        self._prepare = prepare

    async def upload(
        self,
        *,
        tenant: str,
        adapter: str,
        files: Sequence[DeclaredFile],
        chunks: AsyncIterator[tuple[str, bytes]],
        permissions: Permissions,
        request_id: str | None,
    ) -> AdapterVersion:
        """Take chunks of (file name, bytes), compare them with what was declared, and register the version.

        Raises `InvalidAdapter` and whatever else refuses an adapter.
        """
        self._check_declared(files)
        upload = await asyncio.to_thread(self._staging.begin)
        try:
            async for name, data in chunks:
                await asyncio.to_thread(upload.write, name, data)
            declared = {file.name: file.sha256 for file in files}
            folder = await asyncio.to_thread(upload.commit, declared)
            return await self._accept(tenant, adapter, folder, permissions, request_id, sha256=upload.sha256())
        finally:
            await asyncio.to_thread(upload.abort)

    async def take_folder(
        self, *, tenant: str, adapter: str, folder: Path, permissions: Permissions, request_id: str | None
    ) -> AdapterVersion:
        """Register a PEFT folder of this machine. Raises `Forbidden` outside the `import_roots`."""
        resolved = await asyncio.to_thread(folder.resolve)
        if not any(resolved.is_relative_to(root) for root in self._import_roots):
            allowed = ", ".join(map(str, self._import_roots)) or "none"
            raise Forbidden(
                f"{folder} is not below a folder that adapters may be imported from (now: {allowed}): start the server "
                "with --import-roots, or upload the adapter"
            )
        return await self._accept(tenant, adapter, resolved, permissions, request_id)

    async def _accept(
        self,
        tenant: str,
        adapter: str,
        folder: Path,
        permissions: Permissions,
        request_id: str | None,
        *,
        sha256: Mapping[str, str] | None = None,
    ) -> AdapterVersion:
        def passed(digest: str) -> None:
            if sha256 is not None:  # the folder is ours alone: nobody can have changed it since
                self._prepare(digest, folder)

        def accept(catalog: Catalog) -> AdapterVersion:
            version = accept_folder(
                folder,
                catalog=catalog,
                store=self._store,
                base=self._base,
                serving_form=self._form,
                limits=self._limits,
                tenant=tenant,
                adapter=adapter,
                allow_noop=permissions.noop,
                allow_other_quantization=permissions.other_form,
                # A folder that names no base was made for the one it is sent to: so its sender says by sending it.
                declared=True,
                request_id=request_id,
                sha256=sha256,
                passed=passed,
            )
            if permissions.other_form and version.form != self._form:
                catalog.add_record(version.digest, OTHER_FORM_RECORD, {"form": self._form.value}, tenant=tenant)
            if permissions.noop:
                catalog.add_record(version.digest, NOOP_RECORD, {}, tenant=tenant)
            return version

        return await self._registry.write_long(accept)

    def _check_declared(self, files: Sequence[DeclaredFile]) -> None:
        reasons = []
        names = [file.name for file in files]
        for name in sorted({name for name in names if names.count(name) > 1}):
            reasons.append(Reason(field="header.files", problem=f"{name[:200]!r} is named more than once"))
        num_bytes = sum(file.size_bytes for file in files)
        if not files:
            reasons.append(Reason(field="header.files", problem="is empty"))
        if num_bytes > self._max_adapter_bytes:
            problem = f"{num_bytes} bytes are declared; the limit is {self._max_adapter_bytes}"
            remedy = "start the server with a larger --max-adapter-mib"
            reasons.append(Reason(field="header.files", problem=problem, remedy=remedy))
        if reasons:
            raise InvalidAdapter("the upload was refused", reasons)
