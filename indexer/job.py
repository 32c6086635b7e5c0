"""What one run does to which data: its settings, its identity, and where it was interrupted."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa

from .classes import ClassMap, match_classes
from .datasets import ImageDataset
from .decode import MAX_PIXELS
from .errors import IncompatibleIndexError, SettingError
from .filters import FilterLayout
from .manifest import Manifest
from .models import LoadedModel
from .saliency.layout import profile_layout
from .saliency.precision import PRECISIONS
from .schema import samples_schema

PROFILE_DTYPES = ("float32", "float16")
PACKAGES = ("failsearch", "torch", "timm", "lancedb", "numpy", "pillow")
SEGMENT_BATCHES = 8
"""Batches in a segment of the spool: what an interrupted run has to do again, at most."""


@dataclass(frozen=True)
class IndexSettings:
    """Choices of an indexing run.

    Attributes:
        units: "conv", "linear" or "all".
        aggregation: "filter" or "layer".
        signed: keep the sign of standardized profiles, as the published code does.
        precision: arithmetic of the passes, see `saliency.precision`.
        profile_dtype: storage type of profiles, "float32" or "float16".
        batch_size: images at a time; None chooses by free memory.
        workers: threads that decode; None chooses by the number of cores.
        class_map: model class by data class, for names that do not match by themselves.
        max_pixels: images with more are rejected.
    """

    units: str = "conv"
    aggregation: str = "filter"
    signed: bool = False
    precision: str = "fp32"
    profile_dtype: str = "float32"
    batch_size: int | None = None
    workers: int | None = None
    class_map: Mapping[str, str] = field(default_factory=dict)
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise SettingError(f"precision {self.precision!r}: choose {', '.join(PRECISIONS)}")
        if self.profile_dtype not in PROFILE_DTYPES:
            raise SettingError(
                f"profile dtype {self.profile_dtype!r}: choose {', '.join(PROFILE_DTYPES)}"
            )
        for name in ("batch_size", "workers", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingError(f"{name.replace('_', ' ')} {value}: give 1 or more")


@dataclass(frozen=True)
class Job:
    """A data set, a model and the settings to bring them together with.

    Attributes:
        dataset: what to index.
        loaded: what to index it with.
        settings: how.
        classes: from the data's labels to the model's outputs.
        layout: columns of a profile.
    """

    dataset: ImageDataset
    loaded: LoadedModel
    settings: IndexSettings
    classes: ClassMap
    layout: FilterLayout

    @classmethod
    def plan(cls, dataset: ImageDataset, loaded: LoadedModel, settings: IndexSettings) -> "Job":
        """Match classes and lay out the profile.

        Raises:
            ClassMapError: the classes of data and model do not fit.
            ModelError: the model has no such units.
        """
        lists = (loaded.class_names or (), *loaded.class_aliases, settings.class_map)
        dataset = dataset.expecting([name for names in lists for name in names])
        classes = match_classes(
            dataset,
            num_classes=loaded.num_classes,
            model_names=loaded.class_names,
            aliases=loaded.class_aliases,
            overrides=settings.class_map,
        )
        layout = profile_layout(loaded.model, settings.units, settings.aggregation)
        return cls(dataset, loaded, settings, classes, layout)

    @property
    def source(self) -> dict[str, Any]:
        """What the manifest records of the data set."""
        settings = self.settings
        chosen = {"class_map": dict(settings.class_map), "max_pixels": settings.max_pixels}
        return {**self.dataset.to_source(), **chosen}

    def schema(self, embedding: int | None) -> pa.Schema:
        """Return the schema of the samples table that this job makes."""
        return samples_schema(
            units=len(self.layout),
            classes=self.loaded.num_classes,
            embedding=embedding,
            metadata=self.dataset.metadata_schema,
            profile_dtype=self.settings.profile_dtype,
        )

    def manifest(
        self, batch_size: int = 1, embedding: int | None = None, engine: str = "fast"
    ) -> Manifest:
        """Return the manifest of an index that this job alone fills."""
        return Manifest(
            model=self.loaded.describe(),
            transform=self.loaded.transform_config,
            classes=self.classes.names,
            units=self.settings.units,
            aggregation=self.settings.aggregation,
            signed=self.settings.signed,
            precision=self.settings.precision,
            profile_dtype=self.settings.profile_dtype,
            layout=self.layout,
            sources=(self.source,),
            batch_size=batch_size,
            embedding=embedding,
            engine=engine,
            versions=installed_versions(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )


@dataclass(frozen=True)
class RunState:
    """What is written beside the spool before the first image, and compared on resuming.

    Attributes:
        manifest: of the index as it will be once the run is done.
        source: number of this run's data set among the manifest's sources.
        rows: rows of the data set.
        segment_rows: rows in a segment.
    """

    manifest: Manifest
    source: int
    rows: int
    segment_rows: int

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**vars(self), "manifest": self.manifest.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "RunState":
        """Rebuild a state from `to_json`."""
        manifest = Manifest.from_json(document["manifest"])
        return cls(manifest, document["source"], document["rows"], document["segment_rows"])

    def going_on_with(self, batch_size: int, engine: str) -> "RunState":
        """Return the state of a run that had to change its batch size or engine."""
        manifest = replace(self.manifest, batch_size=batch_size, engine=engine)
        return replace(self, manifest=manifest)

    def rows_done(self, segments: int) -> int:
        """Return how many rows that many finished segments account for."""
        return min(segments * self.segment_rows, self.rows)

    def require_same(self, job: Job) -> None:
        """Raise IncompatibleIndexError where another run than this one was interrupted."""
        begun = self.manifest.sources[self.source]
        found = self.manifest.differences(job.manifest())
        if begun["path"] != job.source["path"]:
            found.append(f"data: {begun['path']} was begun, {job.source['path']} is given")
        elif begun != job.source:
            found.append("data: the files, or the options to read them, have changed since")
        if found:
            raise IncompatibleIndexError(
                f"an interrupted run is waiting to be continued, and this is another one "
                f"({'; '.join(found)}): repeat the interrupted command, or use another --db"
            )


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that a profile depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that was never installed
            continue
    return found
