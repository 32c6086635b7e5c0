"""The object behind `failsearch.open`: one index, and every question it answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from indexer.errors import SettingError
from indexer.lock import require_writable
from indexer.progress import Progress, silent
from indexer.schema import REJECTS, REJECTS_SCHEMA
from indexer.store import Store

from .arguments import checked, ids_of, picture_of
from .device import resolve_device
from .modes import Modes
from .repairs import Repairs

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from indexer.manifest import Manifest
    from search.ann import AnnReport
    from search.audit.report import AuditReport
    from search.export import ReadImage
    from search.listing import Listing
    from search.results import Sample, SearchResult
    from search.snapshot import Among

    from .explain import ExplainSettings, Explanation, Inversion, InvertSettings
    from .info import IndexInfo


class Index(Modes, Repairs):
    """An indexed validation set together with what was found in it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def open(cls, path: str | Path) -> Index:
        """Open a finished index; raises StoreError where there is none."""
        return cls(Store.open(path))

    def __repr__(self) -> str:
        return f"failsearch.open({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The database folder."""
        return self.store.path

    @property
    def manifest(self) -> Manifest:
        """What the index was made with."""
        return self.store.manifest

    # -- what there is ------------------------------------------------------------------------

    def info(self) -> IndexInfo:
        """Count and describe the index."""
        from .info import describe_index

        return describe_index(self.store)

    def rejects(self) -> pa.Table:
        """Return the rows of the data sets that could not be used: id, source, ref, reason."""
        found = self.store.read_table(REJECTS)
        return REJECTS_SCHEMA.empty_table() if found is None else found

    def relocate(
        self,
        *,
        model: str | None = None,
        checkpoint: str | Path | None = None,
        data: str | Path | Iterable[str | Path] = (),
    ) -> Manifest:
        """Tell the index where its model and data are now; see `indexer.relocate.relocate`.

        `data` is where the data set is, or "OLD=NEW" for each that has moved.
        """
        from indexer.relocate import relocate

        places = [data] if isinstance(data, str | Path) else data
        return relocate(
            self.path, model=model, checkpoint=checkpoint, data=[str(place) for place in places]
        )

    def engine_paths(self, device: str = "auto") -> list[tuple[str, str, str]]:
        """Return (layer, path, reason): how the engine profiles each layer on this machine."""
        from .engine_paths import engine_paths

        return engine_paths(self.store, resolve_device(device))

    # -- failures and neighbours ---------------------------------------------------------------

    def sample(self, sample: str) -> Sample:
        """Return one sample; raises UnknownSampleError."""
        return self.samples(sample)[0]

    def samples(self, ids: str | Iterable[str]) -> tuple[Sample, ...]:
        """Return samples in the order asked; raises UnknownSampleError."""
        from search.snapshot import snapshot

        version = snapshot(self.store)
        return tuple(version.read_samples(version.positions(ids_of(ids, "ids"))))

    def failures(
        self,
        *,
        filters: str | Sequence[str] = (),
        sort: str = "-loss",
        limit: int | None = None,
        among: Among = "failures",
        mode: str | None = None,
    ) -> Listing:
        """List misclassified (or all) samples; see `search.listing.list_samples`.

        `mode` leaves the members of a failure mode; raises UnknownSampleError if there is none.
        """
        from search.listing import list_samples

        asked = {"filters": filters, "sort": sort, "limit": limit, "among": among, "mode": mode}
        return list_samples(self.store, **checked(list_samples, asked))

    def export(self, listing: Listing, path: str | Path) -> int:
        """Write a listing to .csv, .parquet, .arrow or .jsonl, or its images to a folder.

        Raises:
            SettingError: the path has another suffix, cannot be written or lies in an index.
        """
        from search.destination import FORMATS, check_export
        from search.export import export, export_folders

        path = Path(path)
        check_export(path, folders=True)
        if path.suffix.lower() in FORMATS:
            return export(listing, path)
        return export_folders(listing, path, self._image_reader())

    def export_fiftyone(self, folder: str | Path) -> int:
        """Write the failures as a data set for FiftyOne; see `search.audit.fiftyone`."""
        from search.audit.fiftyone import export_fiftyone
        from search.destination import check_folder

        folder = Path(folder)
        check_folder(folder)
        return export_fiftyone(self.store, folder, self._image_reader())

    def export_atlas(self, path: str | Path) -> int:
        """Write the failures as parquet for Embedding Atlas; see `search.audit.exchange`."""
        from search.audit.exchange import atlas_table
        from search.destination import check_file
        from search.export import write_table

        path = Path(path)
        check_file(path, ".parquet")
        table = atlas_table(self.store)
        write_table(table, path)
        return len(table)

    def _image_reader(self) -> ReadImage:
        from indexer.datasets import open_source

        sources = [open_source(source) for source in self.manifest.sources]
        return lambda sample: sources[sample.source or 0].read(sample.ref or "")

    def search(
        self,
        samples: str | Sample | Iterable[str | Sample] | None = None,
        *,
        image: Path | str | Image.Image | np.ndarray | None = None,
        label: str | int | None = None,
        device: str = "auto",
        **settings: Any,
    ) -> SearchResult:
        """Find the nearest samples by cosine of the standardized profile.

        Args:
            samples: a sample or its id, or several liked ones whose mean is searched for.
            image: a file, picture or array uint8 [height, width, 3] that is not in the index, in
                place of `samples`.
            label: its true class.
            device: where an image is profiled.
            settings: k, among, filters and more, see `search.neighbours.SearchSettings`.

        Raises:
            UnknownSampleError: no such sample.
            SettingError: both or neither of `samples` and `image`, or an image without a label, or
                the other way round; or something that none of them takes.
        """
        from search.neighbours import SearchSettings, search, search_profile

        ids = [] if samples is None else ids_of(samples)
        if bool(ids) == (image is not None):
            raise SettingError("give the id of a sample, or an image and its label")
        chosen = SearchSettings(**checked(SearchSettings, settings))
        if image is None:
            if label is not None:
                raise SettingError("a label goes with an image: drop it to search for a sample")
            return search(self.store, ids[0] if len(ids) == 1 else ids, chosen)
        if label is None:
            raise SettingError("an image needs its true class: give a label")
        from .query import ImageProfiler

        picture = picture_of(image)
        profile, query = ImageProfiler(self.store, resolve_device(device))(picture, label)
        return search_profile(self.store, profile, query, chosen)

    def search_many(
        self, samples: str | Sample | Iterable[str | Sample], **settings: Any
    ) -> Iterator[pa.RecordBatch]:
        """Stream the neighbours of many samples; see `search.neighbours.search_many`."""
        from search.neighbours import SearchSettings, search_many

        chosen = SearchSettings(**checked(SearchSettings, settings))
        return search_many(self.store, ids_of(samples), chosen)

    def build_ann(self, *, partitions: int | None = None, progress: Progress = silent) -> AnnReport:
        """Build the approximate index and measure it; see `search.ann.build_ann`."""
        from search.ann import build_ann

        return build_ann(self.store, partitions=partitions, progress=progress)

    # -- explanations -----------------------------------------------------------------------

    def explain(
        self,
        sample: str | None = None,
        *,
        image: Image.Image | Path | None = None,
        label: str | int | None = None,
        settings: ExplainSettings | None = None,
        device: str = "auto",
        progress: Progress = silent,
    ) -> Explanation:
        """Say which filters and pixels are behind a sample; see `failsearch.explain.explain`."""
        from .explain import ExplainSettings, explain

        return explain(
            self.store,
            sample=sample,
            image=image,
            label=label,
            settings=settings or ExplainSettings(),
            device=resolve_device(device),
            progress=progress,
        )

    def invert(
        self,
        sample: str,
        *,
        start: str | Path | Image.Image = "noise",
        settings: InvertSettings | None = None,
        device: str = "auto",
        progress: Progress = silent,
    ) -> Inversion:
        """Recover an image from a stored profile; see `failsearch.explain.invert`."""
        from .explain import InvertSettings, invert

        return invert(
            self.store,
            sample=sample,
            start=start,
            settings=settings or InvertSettings(),
            device=resolve_device(device),
            progress=progress,
        )

    # -- audit ------------------------------------------------------------------------------

    def audit(
        self,
        *,
        against: str | Path | Index | None = None,
        relabel: bool = False,
        deep: bool = False,
        forget: bool = False,
        device: str = "auto",
        progress: Progress = silent,
        **settings: Any,
    ) -> AuditReport:
        """Look for what the data set hides; see `search.audit.run.audit`.

        Args:
            against: another index or its path, to look for leaks between the two.
            relabel: profile label suspects under the suggested label too, which takes the model.
            deep: show the model altered copies of label suspects, which finds more wrong labels
                among those that it was trained on; see `failsearch.altered`.
            forget: go deep, then train a copy of the model on all samples but the most suspicious
                and ask it about these, which finds still more, if the model was trained on this
                data; see `failsearch.forgotten`.
            device: where the model runs.
            progress: shows which kind is being looked for.
            settings: kinds, top and more, see `search.audit.settings.AuditSettings`.

        Raises:
            SettingError: `against` is this index, or none; or `relabel`, `deep` or `forget`
                without the kind labels.
        """
        from search.audit.run import audit
        from search.audit.settings import IMAGES, LABELS, AuditSettings

        if isinstance(against, str | Path):
            against = Index.open(against)
        if not isinstance(against, Index | None):
            raise SettingError(f"against={against!r}: against takes an index or its path")
        if against is not None and against.path.resolve() == self.path.resolve():
            raise SettingError(f"{self.path} cannot leak into itself: give another index")
        chosen = AuditSettings(**checked(AuditSettings, settings))
        for name, wanted in (("relabel", relabel), ("deep", deep), ("forget", forget)):
            if wanted and LABELS not in chosen.kinds:
                raise SettingError(f"{name} is for label suspects: add the kind {LABELS}")
        require_writable(self.path)
        profiler = None
        if relabel:
            from .query import SampleRelabeler

            profiler = SampleRelabeler(self.store, resolve_device(device))
        look_again = forgetting = None
        if deep or forget:
            from .altered import SecondLook

            look_again = SecondLook(self.store, resolve_device(device), progress)
        if forget:
            from .forgotten import Forgetting

            forgetting = Forgetting(self.store, resolve_device(device), progress)
        return audit(
            self.store,
            chosen,
            against=None if against is None else against.store,
            relabel=profiler,
            look_again=look_again,
            forget=forgetting,
            read_image=self._image_reader() if IMAGES in chosen.kinds else None,
            progress=progress,
        )


def open(path: str | Path = "failures.lancedb") -> Index:
    """Open a finished index.

    Raises:
        StoreError: there is none at `path`, or its indexing run was never finished.
    """
    return Index.open(path)
