"""How adapters come in: by upload, or from a folder of the server's disk below an allowed root."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path

from graft.adapters.accepting import accept_folder
from graft.adapters.adapter import AdapterVersion
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.compatibility import Limits
from graft.adapters.digest import PREFIX, digest_of_json
from graft.adapters.errors import InvalidAdapter, Reason
from graft.adapters.folder.manifest import TEMPLATE_FILE
from graft.adapters.folder.reference import FILE_NAME as REFERENCE_FILE
from graft.adapters.folder.strict_json import read_json_object
from graft.adapters.store.staging import Staging, Upload
from graft.adapters.store.store import BlobStore
from graft.server.registry.accepted import Accepted, DeclaredFile, Permissions, TakeBack, taken_back
from graft.server.registry.chat_templates import ChatTemplates
from graft.server.registry.import_folder import IMPORTED_FILES, TOKENIZER_CONFIG, ImportFolder
from graft.server.registry.intents import Intent, Intents
from graft.server.registry.snapshots import Snapshots
from graft.server.registry.thread import CatalogThread
from graft.server.residency.slots import require_slots
from graft.server.runtime.background import watched

_MAX_CONFIG_BYTES = 4 << 20


class AdapterUploads:
    """Checks, stores and registers. Nothing of a refused adapter stays visible."""

    def __init__(
        self,
        *,
        catalog: CatalogThread,
        snapshots: Snapshots,
        store: BlobStore,
        staging: Staging,
        limits: Limits,
        import_roots: Sequence[Path],
        num_slots: int,
        prepare: Callable[[str, Path], None],
        foreign: Callable[[], None],
        chat_templates: ChatTemplates,
        intents: Intents,
    ) -> None:
        """`prepare` is told in a thread of an upload that passed its checks: digest and folder, not registered yet.

        `foreign` is told, in any thread, when an adapter without a recorded reference begins to come in.
        """
        self._foreign = foreign
        self._chat_templates = chat_templates
        self._num_slots = num_slots
        self._catalog = catalog
        self._snapshots = snapshots
        self._store = store
        self._staging = staging
        self._limits = limits
        self._import_roots = tuple(root.resolve() for root in import_roots)
        self._prepare = prepare
        self._intents = intents
        self._finishing: set[asyncio.Task[None]] = set()

    async def upload(
        self,
        *,
        tenant: str,
        adapter: str,
        files: Sequence[DeclaredFile],
        chunks: AsyncIterator[tuple[str, bytes]],
        permissions: Permissions,
        request_id: str | None,
        template_digest: str | None = None,
        take_back: TakeBack | None = None,
    ) -> Accepted:
        """Take chunks of (file name, bytes), compare them with what was declared, and register the version.

        `template_digest` is that of the chat template beside the adapter, which may be one that is not sent. With
        `take_back` the version is noted as one that an alias is to point at.
        Raises `InvalidAdapter` and whatever else refuses an adapter.
        """
        require_slots(self._num_slots)
        self._check_declared(files)
        if REFERENCE_FILE not in {file.name for file in files}:
            self._foreign()
        upload = await asyncio.to_thread(self._staging.begin)
        try:
            async for name, data in chunks:
                await asyncio.to_thread(upload.write, name, data)
            declared = {file.name: file.sha256 for file in files}
            await asyncio.to_thread(upload.commit, declared)
        except BaseException:
            await asyncio.to_thread(upload.abort)
            raise
        accepting = self._accept(
            tenant,
            adapter,
            upload,
            permissions,
            request_id,
            template_digest,
            passed=self._prepare,
            promotes=take_back is not None,
        )
        return await self._finished(accepting, upload, take_back)

    async def take_folder(
        self,
        *,
        tenant: str,
        adapter: str,
        folder: Path,
        permissions: Permissions,
        request_id: str | None,
        take_back: TakeBack | None = None,
    ) -> Accepted:
        """Register a PEFT folder of this machine as an upload of it would be. Raises `Forbidden` outside the
        `import_roots`.
        """
        require_slots(self._num_slots)
        source = await asyncio.to_thread(ImportFolder, folder, self._import_roots)
        return await self.take(
            tenant=tenant,
            adapter=adapter,
            chunks=source.chunks,
            permissions=permissions,
            request_id=request_id,
            take_back=take_back,
        )

    async def take(
        self,
        *,
        tenant: str,
        adapter: str,
        chunks: Callable[[], Iterator[tuple[str, bytes]]],
        permissions: Permissions,
        request_id: str | None,
        take_back: TakeBack | None = None,
    ) -> Accepted:
        """Register what lies on this machine, or is made here: `chunks` are asked in a thread.

        Raises what `upload` does.
        """
        require_slots(self._num_slots)
        upload = await asyncio.to_thread(lambda: self._staging.begin(names=IMPORTED_FILES))

        def copy() -> str | None:
            for name, data in chunks():
                upload.write(name, data)
            upload.commit()
            if REFERENCE_FILE not in upload.sha256():
                self._foreign()
            return _take_template(upload)

        async def accept() -> Accepted:
            template_digest = await asyncio.to_thread(copy)
            promotes = take_back is not None
            return await self._accept(
                tenant, adapter, upload, permissions, request_id, template_digest, promotes=promotes
            )

        return await self._finished(accept(), upload, take_back)

    async def _finished(
        self, accepting: Coroutine[None, None, Accepted], upload: Upload, take_back: TakeBack | None
    ) -> Accepted:
        """To its end, though its caller may go away: threads read the upload, and what they register is known."""

        async def finish() -> Accepted:
            try:
                return await accepting
            finally:
                await asyncio.to_thread(upload.abort)

        task = asyncio.ensure_future(finish())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            left = watched(taken_back(task, take_back), "what was registered for a caller who has gone")
            self._finishing.add(left)
            left.add_done_callback(self._finishing.discard)
            raise

    async def _accept(
        self,
        tenant: str,
        adapter: str,
        upload: Upload,
        permissions: Permissions,
        request_id: str | None,
        template_digest: str | None,
        *,
        passed: Callable[[str, Path], None] = lambda digest, folder: None,
        promotes: bool = False,
    ) -> Accepted:
        is_own = await self._settle_template(upload)
        folder, sha256 = upload.folder, upload.sha256()
        before = self._snapshots.current.versions_of(tenant, adapter)
        known = {one.digest for one in before}

        def checked(digest: str) -> None:
            passed(digest, folder)
            intent = Intent(tenant=tenant, adapter=adapter, digest=digest, is_new_adapter=not before)
            if not promotes:
                self._intents.end(intent)  # of another call, which must not take it back any more
            elif digest not in known:
                self._intents.begin(intent)

        def accept(catalog: Catalog) -> AdapterVersion:
            return accept_folder(
                folder,
                catalog=catalog,
                store=self._store,
                base=self._snapshots.base,
                serving_form=self._snapshots.form,
                limits=self._limits,
                tenant=tenant,
                adapter=adapter,
                allow_noop=permissions.noop,
                allow_other_quantization=permissions.other_form,
                request_id=request_id,
                sha256=sha256,
                passed=checked,
            )

        version = await self._catalog.write_long(accept)
        return Accepted(
            version=version,
            is_new=version.digest not in known,
            is_new_adapter=not before and version.number == 1,
            notices=self._notices(template_digest, is_own=is_own),
        )

    async def _settle_template(self, upload: Upload) -> bool:
        """Whether a chat template of its own is kept. Raises `InvalidAdapter` for one that cannot be used."""
        sha256 = upload.sha256().get(TEMPLATE_FILE)
        if sha256 is None:
            return False
        if PREFIX + sha256 == self._snapshots.base.identity.chat_template_digest:
            await asyncio.to_thread(upload.drop, TEMPLATE_FILE)
            return False
        data = await asyncio.to_thread((upload.folder / TEMPLATE_FILE).read_bytes)
        if reasons := await self._chat_templates.reasons(data):
            raise InvalidAdapter("the adapter's chat template cannot be used", reasons)
        return True

    def _notices(self, template_digest: str | None, *, is_own: bool) -> tuple[str, ...]:
        base = self._snapshots.base.identity
        if is_own:
            return ("chats with it are rendered by the chat template that came with it, not by the base's",)
        if template_digest is None or template_digest == base.chat_template_digest:
            return ()
        used = f"that of the base {base.name}" if base.chat_template_digest else "none, as the base has none,"
        return (
            f"the chat template that lies beside the adapter was not sent as {TEMPLATE_FILE}, or is several by name: "
            f"{used} is used. If it was trained on chats that were rendered otherwise, send one template",
        )

    def _check_declared(self, files: Sequence[DeclaredFile]) -> None:
        reasons = []
        names = [file.name for file in files]
        for name in sorted({name for name in names if names.count(name) > 1}):
            reasons.append(Reason(field="header.files", problem=f"{name[:200]!r} is named more than once"))
        num_bytes = sum(file.size_bytes for file in files)
        if not files:
            reasons.append(Reason(field="header.files", problem="is empty"))
        if num_bytes > self._limits.max_bytes:
            problem = f"{num_bytes} bytes are declared; the limit is {self._limits.max_bytes}"
            remedy = "start the server with a larger --max-adapter-mib"
            reasons.append(Reason(field="header.files", problem=problem, remedy=remedy))
        if reasons:
            raise InvalidAdapter("the upload was refused", reasons)


def _take_template(upload: Upload) -> str | None:
    """Have the chat template in a file of its own where tokenizer_config.json holds one; that file is left out.

    Returns the digest of several templates by name, of which none is served.
    """
    config, _ = read_json_object(upload.folder / TOKENIZER_CONFIG, max_bytes=_MAX_CONFIG_BYTES)
    upload.drop(TOKENIZER_CONFIG)
    template = config.get("chat_template")
    if template is None or TEMPLATE_FILE in upload.sha256():
        return None
    if not isinstance(template, str):
        return digest_of_json(template)
    upload.write(TEMPLATE_FILE, template.encode(errors="replace"))
    upload.commit()
    return None
