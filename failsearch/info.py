"""What `failsearch info` says about an index."""

from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import Any

from indexer.errors import AbsentError
from indexer.schema import REJECTS, REPAIRS
from indexer.store import Store
from search.info import search_info
from search.modes import read_modes


@dataclass(frozen=True)
class IndexInfo:
    """An index in figures.

    Attributes:
        path: the database folder.
        samples: N, rows that could be indexed.
        failures: of them, predicted wrong.
        rejects: rows of the data sets that could not be used.
        reasons: how often each reason for a rejection came up, most frequent first.
        filters: F, length of a profile.
        layers: layers that a profile spans.
        classes: C class names by model output.
        model: spec, architecture and digest of the weights.
        transform: from image to model input.
        profile: units, aggregation, signed, precision and storage type.
        sources: kind and path of each data set.
        modes: number of failure modes found last, None where they were never looked for.
        repairs: number of recorded repairs.
        search: path, state of the approximate index, recall and expected time of a search.
        version: of the samples table.
        versions: of the packages that made the index.
        created: when, ISO 8601 in UTC.
    """

    path: str
    samples: int
    failures: int
    rejects: int
    reasons: tuple[tuple[str, int], ...]
    filters: int
    layers: int
    classes: tuple[str, ...]
    model: dict[str, Any]
    transform: dict[str, Any]
    profile: dict[str, Any]
    sources: tuple[dict[str, Any], ...]
    modes: int | None
    repairs: int
    search: dict[str, Any]
    version: int
    versions: dict[str, str]
    created: str

    def __post_init__(self) -> None:
        if not 0 <= self.failures <= self.samples:
            raise ValueError(f"{self.failures} failures among {self.samples} samples")

    @property
    def accuracy(self) -> float:
        """Share of the samples that are predicted right, in 0..1."""
        return 1 - self.failures / self.samples if self.samples else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**vars(self), "accuracy": self.accuracy, "reasons": dict(self.reasons)}

    def _repr_html_(self) -> str:
        shown = {
            "samples": self.samples,
            "failures": self.failures,
            "accuracy": f"{self.accuracy:.4f}",
            "filters": self.filters,
            "model": self.model["spec"],
        }
        rows = "".join(
            f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>"
            for name, value in shown.items()
        )
        return f"<table>{rows}</table>"


def describe_index(store: Store) -> IndexInfo:
    """Count and describe an index."""
    manifest = store.manifest
    rejects = store.read_table(REJECTS)
    repairs = store.read_table(REPAIRS)
    reasons = [] if rejects is None else rejects["reason"].to_pylist()
    try:
        modes = len(read_modes(store))
    except AbsentError:
        modes = None
    return IndexInfo(
        path=str(store.path),
        samples=store.count(),
        failures=store.count("NOT correct"),
        rejects=len(reasons),
        reasons=tuple(Counter(reasons).most_common()),
        filters=len(manifest.layout),
        layers=len(manifest.layout.layers),
        classes=manifest.classes,
        model=manifest.model,
        transform=manifest.transform,
        profile={
            "units": manifest.units,
            "aggregation": manifest.aggregation,
            "signed": manifest.signed,
            "precision": manifest.precision,
            "dtype": manifest.profile_dtype,
        },
        sources=tuple({"kind": s["kind"], "path": s["path"]} for s in manifest.sources),
        modes=modes,
        repairs=0 if repairs is None else len(repairs),
        search=search_info(store).to_json(),
        version=store.version,
        versions=manifest.versions,
        created=manifest.created,
    )
