"""What a search returns: frozen records that check themselves and print, convert and display."""

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from indexer.schema import METADATA_PREFIX, THUMBNAIL

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Sample:
    """One sample of the index: everything stored about it but the long columns.

    Attributes are the columns of the samples table (see `indexer.schema.samples_schema`).
    `metadata` holds the columns of the data set by bare name; `thumbnail` is a JPEG where it was
    asked for, and takes no part in comparisons.
    """

    id: str
    label: int
    prediction: int
    label_name: str
    prediction_name: str
    correct: bool
    confidence: float
    label_probability: float
    loss: float
    margin: float
    entropy: float
    top_classes: tuple[int, ...] = ()
    top_probabilities: tuple[float, ...] = ()
    width: int | None = None
    height: int | None = None
    source: int | None = None
    ref: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    thumbnail: bytes | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.correct != (self.label == self.prediction):
            raise ValueError(f"sample {self.id!r}: correct contradicts label and prediction")
        if len(self.top_classes) != len(self.top_probabilities):
            raise ValueError(f"sample {self.id!r}: top classes and probabilities differ in length")

    @property
    def pair(self) -> str:
        """Return "label → prediction" by name."""
        return f"{self.label_name} → {self.prediction_name}"

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Sample":
        """Make a sample of a row of the samples table; columns not read stay at their default."""
        values = {name: row[name] for name in _FIELDS if row.get(name) is not None}
        for name in ("top_classes", "top_probabilities"):
            values[name] = tuple(values.get(name, ()))
        values["metadata"] = {
            name.removeprefix(METADATA_PREFIX): value
            for name, value in row.items()
            if name.startswith(METADATA_PREFIX)
        }
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; numbers that JSON lacks become None."""
        values = {name: getattr(self, name) for name in _FIELDS if name != THUMBNAIL}
        return {**plain(values), "metadata": plain(self.metadata)}

    def to_row(self) -> dict[str, Any]:
        """Return the sample as a row of the samples table, without its thumbnail."""
        values = {name: getattr(self, name) for name in _FIELDS if name != THUMBNAIL}
        return values | {METADATA_PREFIX + name: value for name, value in self.metadata.items()}

    def _repr_html_(self) -> str:
        return _html_table(_SAMPLE_HEADER, [self._cells()])

    def _cells(self) -> list[str]:
        """Return the escaped cells of one line of a table."""
        image = ""
        if self.thumbnail:
            data = base64.b64encode(self.thumbnail).decode()
            image = f'<img alt="" src="data:image/jpeg;base64,{data}"> '
        numbers = (f"{self.confidence:.3f}", f"{self.loss:.3f}")
        return [image + html.escape(self.id), html.escape(self.pair), *numbers]


_SAMPLE_HEADER = ("id", "label → prediction", "confidence", "loss")
_FIELDS = tuple(item.name for item in fields(Sample) if item.name != "metadata")


@dataclass(frozen=True)
class CommonFilter:
    """A filter that query and neighbour have in common.

    Attributes:
        layer: name of its layer.
        filter: index within the layer.
        share: its part of the cosine; the parts of all filters add up to the score.
    """

    layer: str
    filter: int
    share: float

    def __str__(self) -> str:
        return f"{self.layer}:{self.filter}"


@dataclass(frozen=True)
class Neighbour:
    """A sample close to the query.

    Attributes:
        sample: the neighbour.
        score: exact cosine of the two profiles, in [-1, 1].
        shared_filters: the filters that contribute most to the score, greatest first.
    """

    sample: Sample
    score: float
    shared_filters: tuple[CommonFilter, ...] = ()

    def __post_init__(self) -> None:
        if not -1 <= self.score <= 1:
            raise ValueError(f"{self.score} is not a cosine (sample {self.sample.id!r})")

    def to_json(self) -> dict[str, Any]:
        """Return the sample with `score` and `shared_filters`."""
        shared = [vars(item).copy() for item in self.shared_filters]
        return {**self.sample.to_json(), "score": self.score, "shared_filters": shared}


@dataclass(frozen=True)
class SearchResult:
    """The nearest neighbours of a query, best first.

    Attributes:
        query: what was searched for: a sample, or several liked ones whose mean was used.
        neighbours: best first, ties by id; never one of the query's samples.
        among: "failures" or "all".
        filters: the filters in force, as text.
        method: "exact" or "ann".
        complete: whether these are the true neighbours: always so for "exact"; for "ann" shown
            only by an error bound measured on failures when the index was built.
        margin: distance between the worst neighbour and the best candidate that was not
            re-ranked, less the error bound; None for "exact".
    """

    query: Sample | tuple[Sample, ...]
    neighbours: tuple[Neighbour, ...]
    among: str = "failures"
    filters: tuple[str, ...] = ()
    method: str = "exact"
    complete: bool = True
    margin: float | None = None

    def __post_init__(self) -> None:
        found = [neighbour.sample.id for neighbour in self.neighbours]
        order = [(-neighbour.score, neighbour.sample.id) for neighbour in self.neighbours]
        if len(set(found)) != len(found):
            raise ValueError("a neighbour is listed twice")
        if order != sorted(order):
            raise ValueError("neighbours must come best first, ties by id")
        if self.method not in ("exact", "ann") or (self.method == "exact" and not self.complete):
            raise ValueError(f"method {self.method!r} with complete={self.complete}")

    def __len__(self) -> int:
        return len(self.neighbours)

    @cached_property
    def queries(self) -> tuple[Sample, ...]:
        """The query as a tuple, whether it is one sample or several."""
        return (self.query,) if isinstance(self.query, Sample) else self.query

    def to_json(self) -> dict[str, Any]:
        """Return {query, neighbours: [sample + score], among, filters, method, complete, ...}."""
        queries = [sample.to_json() for sample in self.queries]
        return {
            "query": queries[0] if isinstance(self.query, Sample) else queries,
            "neighbours": [neighbour.to_json() for neighbour in self.neighbours],
            "among": self.among,
            "filters": list(self.filters),
            "method": self.method,
            "complete": self.complete,
            "margin": plain(self.margin),
        }

    def to_arrow(self) -> pa.Table:
        """Return one row a neighbour: rank from 1, score and the columns of the sample."""
        rows = samples_to_arrow(neighbour.sample for neighbour in self.neighbours)
        scores = pa.array([neighbour.score for neighbour in self.neighbours], pa.float32())
        ranks = pa.array(range(1, len(self) + 1), pa.int32())
        return rows.add_column(0, "rank", ranks).add_column(1, "score", scores)

    def to_pandas(self) -> "pd.DataFrame":
        """Return `to_arrow` as a data frame; needs pandas."""
        return self.to_arrow().to_pandas()

    def _repr_html_(self) -> str:
        header = ("", "score", *_SAMPLE_HEADER, "shared filters")
        rows = [["query", "", *sample._cells(), ""] for sample in self.queries]
        for rank, neighbour in enumerate(self.neighbours, 1):
            shared = html.escape(", ".join(map(str, neighbour.shared_filters)))
            cells = neighbour.sample._cells()
            rows.append([str(rank), f"{neighbour.score:.4f}", *cells, shared])
        return _html_table(header, rows)


_ARROW_FIELDS = (
    ("id", pa.string()),
    ("label", pa.int32()),
    ("prediction", pa.int32()),
    ("label_name", pa.string()),
    ("prediction_name", pa.string()),
    ("correct", pa.bool_()),
    *((name, pa.float32()) for name in ("confidence", "label_probability", "loss")),
    *((name, pa.float32()) for name in ("margin", "entropy")),
    ("top_classes", pa.list_(pa.int32())),
    ("top_probabilities", pa.list_(pa.float32())),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("source", pa.int32()),
    ("ref", pa.string()),
)


def samples_to_arrow(samples: Iterable[Sample]) -> pa.Table:
    """Return samples as rows of the samples table without its long columns."""
    rows = [sample.to_row() for sample in samples]
    known = [pa.array([row[name] for row in rows], kind) for name, kind in _ARROW_FIELDS]
    names = [name for name, _ in _ARROW_FIELDS]
    extra = list(dict.fromkeys(name for row in rows for name in row if name not in names))
    columns = [pa.array([row.get(name) for row in rows]) for name in extra]
    return pa.Table.from_arrays([*known, *columns], names=[*names, *extra])


def samples_from_arrow(table: pa.Table) -> tuple[Sample, ...]:
    """Return the rows of a table with columns of the samples table."""
    return tuple(Sample.from_row(row) for row in table.to_pylist())


def samples_to_html(samples: Sequence[Sample], total: int) -> str:
    """Return a table of samples, and how many more there are."""
    table = _html_table(_SAMPLE_HEADER, (sample._cells() for sample in samples))
    more = total - len(samples)
    return table + (f"<p>and {more} more</p>" if more else "")


def plain(values: Any) -> Any:
    """Return values that JSON can hold: infinities and NaN become None, times text."""
    if isinstance(values, float):
        return values if math.isfinite(values) else None
    if isinstance(values, Mapping):
        return {name: plain(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [plain(value) for value in values]
    return values if isinstance(values, str | int | None) else str(values)


def _html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of escaped cells."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
