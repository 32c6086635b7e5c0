"""What the app keeps between requests: the index, its tables as read last, the model once asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from failsearch.index import Index
from indexer.images import IndexedImages
from indexer.schema import DECISIONS, FINDINGS, MODES, REJECTS, REPAIRS
from indexer.versions import newest_version, table_folder

from .gallery import Gallery
from .jobs import Jobs

if TYPE_CHECKING:
    from search.audit.report import AuditReport
    from search.map import FailureMap
    from search.modes import Mode, ModeReport

    from .models import Models

T = TypeVar("T")
Sources = tuple[dict[str, Any], ...]


class State:
    """Shared by all requests; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.index = Index.open(path)
        self.jobs = Jobs()
        self._lock = threading.RLock()
        self._model_lock = threading.Lock()  # its own: other pages go on while a model loads
        self._models: tuple[Sources, Models] | None = None
        self._images: IndexedImages | None = None
        self._map: tuple[int, FailureMap] | None = None
        self._gallery: Gallery | None = None
        self._read: dict[str, tuple[int, Any]] = {}

    @property
    def gallery(self) -> Gallery:
        """The newest version of the samples, read again when another process wrote one."""
        with self._lock:
            if self._gallery is None or self._gallery.version != self.index.store.version:
                self._gallery = Gallery(self.index.store)
            return self._gallery

    @property
    def models(self) -> Models:
        """The model of the index; torch is imported here, by the first page that needs it."""
        with self._model_lock:
            sources = self.index.manifest.sources
            if self._models is None or self._models[0] != sources:
                from .models import Models

                self._models = sources, Models(self.index.store)
            return self._models[1]

    @property
    def images(self) -> IndexedImages:
        """The images behind the samples, those of data sets added meanwhile among them."""
        with self._lock:
            manifest = self.index.manifest
            if self._images is None or self._images.sources != manifest.sources:
                self._images = IndexedImages(manifest)
            return self._images

    @property
    def map(self) -> FailureMap | None:
        """The map of the failures as they are now; None until it was made."""
        from search.map import known_map

        version = self.gallery.version
        with self._lock:
            if self._map is None or self._map[0] != version:
                known = known_map(self.index.store)
                self._map = None if known is None else (version, known)
            return self._map and self._map[1]

    def make_map(self) -> None:
        """Lay out the failures, which takes up to a minute where there are many."""
        from search.map import failure_map

        # Read before the map is made: where samples come in between, the map is that of a newer
        # version than it goes by, and is read again; never is an old one taken for the newest.
        version = self.gallery.version
        made = failure_map(self.index.store)
        with self._lock:
            self._map = version, made

    @property
    def modes(self) -> ModeReport | None:
        """The modes found last; None where they were never looked for."""
        return self._table(MODES, lambda: self.index.modes)

    @property
    def findings(self) -> AuditReport | None:
        """The findings of the last audits; None where there never was one."""
        from search.audit.report import read_findings

        return self._table(FINDINGS, lambda: read_findings(self.index.store))

    @property
    def rejected(self) -> int:
        """Number of rows of the data sets that could not be used."""
        return self._table(REJECTS, lambda: len(self.index.rejects())) or 0

    @property
    def repairs(self) -> list[dict[str, Any]]:
        """Reports of all repairs, newest first, with what each was made for as it stands today."""
        from finetune.records import describe_today, recorded

        known = self._table(REPAIRS, lambda: recorded(self.index.store)) or []
        return [describe_today(*record, self.modes) for record in reversed(known)]

    @property
    def repair_samples(self) -> pa.Table | None:
        """Ids of repairs beside the samples that each affected; None where there are none."""
        return self._table(
            REPAIRS, lambda: self.index.store.read_table(REPAIRS), key="repair samples"
        )

    @property
    def decisions(self) -> dict[str, dict[str, Any]]:
        """The last decision on each reviewed sample."""
        from search.audit.decisions import read_decisions

        return self._table(DECISIONS, lambda: read_decisions(self.index.store)) or {}

    def mode_names(self) -> list[tuple[str, str]]:
        """Return (id, name) of the modes found so far; empty where they were never looked for."""
        return [(mode.id, mode.name) for mode in self.modes.modes] if self.modes else []

    def mode_of(self, sample: str) -> Mode | None:
        """Return the mode that a sample belongs to, if any."""
        modes = self.modes.modes if self.modes else ()
        return next((mode for mode in modes if sample in mode.samples), None)

    def page_context(self) -> dict[str, Any]:
        """Values that every page shows."""
        manifest = self.index.manifest
        return {
            "version": self.gallery.version,
            "database": str(self.index.path),
            "model_name": manifest.model.get("architecture") or manifest.model["spec"],
        }

    def _table(self, name: str, read: Callable[[], T], *, key: str | None = None) -> T | None:
        """Return what `read` made of a table, read again when the table has a newer version."""
        folder = table_folder(self.index.path, name)
        if not folder.exists():
            return None
        with self._lock:
            version = newest_version(folder)
            known = self._read.get(key or name)
            if known is None or known[0] != version:
                known = self._read[key or name] = (version, read())
            return known[1]
