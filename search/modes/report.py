"""Failure modes as results: validated, immutable, ready for JSON, Arrow, pandas and notebooks."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from indexer.errors import UnknownSampleError

from .settings import ModeSettings

if TYPE_CHECKING:
    import pandas as pd

_CONFUSION = pa.struct(
    [
        ("label", pa.int32()),
        ("prediction", pa.int32()),
        ("label_name", pa.string()),
        ("prediction_name", pa.string()),
        ("count", pa.int32()),
    ]
)
_FILTER = pa.struct([("layer", pa.string()), ("filter", pa.int32()), ("score", pa.float64())])

MODE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("size", pa.int32()),
        pa.field("cohesion", pa.float64()),
        pa.field("samples", pa.list_(pa.string())),
        pa.field("confusions", pa.list_(_CONFUSION)),
        pa.field("filters", pa.list_(_FILTER)),
        pa.field("exemplars", pa.list_(pa.string())),
        pa.field("at_risk", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class Confusion:
    """How often one label was taken for one other class within a mode."""

    label: int
    prediction: int
    label_name: str
    prediction_name: str
    count: int

    def __post_init__(self) -> None:
        if self.label == self.prediction or self.count < 1:
            raise ValueError(f"not a confusion: {self}")


@dataclass(frozen=True)
class SharedFilter:
    """A filter that is salient for a mode.

    Attributes:
        layer: module name.
        filter: index within the layer.
        score: mean |z| over the mode minus mean |z| over all failures, in standard deviations of
            the whole data set.
    """

    layer: str
    filter: int
    score: float


@dataclass(frozen=True)
class Mode:
    """A group of misclassified samples with similar profiles.

    Attributes:
        id: short and stable: renaming keeps it.
        name: unique within a report.
        samples: ids of the members, the most typical and most clearly wrong ones first.
        confusions: most frequent first; their counts add up to the size.
        cohesion: mean cosine between two members in the space they were grouped in.
        filters: shared filters, highest score first.
        exemplars: members that show the mode's variety, the most telling one first.
        at_risk: correct samples closest to the mode, closest first.
    """

    id: str
    name: str
    samples: tuple[str, ...]
    confusions: tuple[Confusion, ...]
    cohesion: float
    filters: tuple[SharedFilter, ...]
    exemplars: tuple[str, ...]
    at_risk: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.id or not self.name:
            raise ValueError("a mode needs an id and a name")
        members = set(self.samples)
        if not members or len(members) != len(self.samples):
            raise ValueError(f"mode {self.id}: members must be unique and at least one")
        if sum(confusion.count for confusion in self.confusions) != self.size:
            raise ValueError(f"mode {self.id}: confusions do not add up to {self.size} members")
        if not members.issuperset(self.exemplars) or members.intersection(self.at_risk):
            raise ValueError(f"mode {self.id}: exemplars are members, samples at risk are not")

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.samples)

    @property
    def pair_share(self) -> float:
        """Share of the members in the most frequent unordered pair of classes, in 0..1."""
        pairs: Counter[frozenset[int]] = Counter()
        for confusion in self.confusions:
            pairs[frozenset((confusion.label, confusion.prediction))] += confusion.count
        return max(pairs.values()) / self.size

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {"id": self.id, "name": self.name, "size": self.size, **_lists(asdict(self))}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Mode":
        """Rebuild a mode from `to_json` or from a row of its table."""
        return cls(
            id=document["id"],
            name=document["name"],
            samples=tuple(document["samples"]),
            confusions=tuple(Confusion(**entry) for entry in document["confusions"]),
            cohesion=document["cohesion"],
            filters=tuple(SharedFilter(**entry) for entry in document["filters"]),
            exemplars=tuple(document["exemplars"]),
            at_risk=tuple(document["at_risk"]),
        )


@dataclass(frozen=True)
class ModeReport:
    """All modes of an index, largest first, and the failures that belong to none.

    Attributes:
        modes: largest first.
        ungrouped: ids of the failures in no mode.
        settings: what they were found with.
        edited: whether a person renamed, merged, split or formed modes since.
    """

    modes: tuple[Mode, ...]
    ungrouped: tuple[str, ...]
    settings: ModeSettings
    edited: bool = False

    def __post_init__(self) -> None:
        for what in ("id", "name"):
            seen = Counter(getattr(mode, what) for mode in self.modes)
            if repeated := [value for value, count in seen.items() if count > 1]:
                raise ValueError(f"modes share the {what} {repeated[0]!r}")
        members = [sample for mode in self.modes for sample in mode.samples]
        if len({*members, *self.ungrouped}) != len(members) + len(self.ungrouped):
            raise ValueError("a failure belongs to one mode or stays ungrouped")

    def __len__(self) -> int:
        return len(self.modes)

    @property
    def grouped_share(self) -> float:
        """Share of the failures that belong to a mode, in 0..1; 0 where nothing failed."""
        grouped = sum(mode.size for mode in self.modes)
        return grouped / max(grouped + len(self.ungrouped), 1)

    @property
    def pair_share(self) -> float:
        """Mean over modes of the share of their most frequent unordered pair of classes."""
        return sum(mode.pair_share for mode in self.modes) / max(len(self.modes), 1)

    def by_sample(self) -> dict[str, Mode]:
        """Return the mode of each grouped failure, by id of the failure."""
        return {sample: mode for mode in self.modes for sample in mode.samples}

    def mode(self, mode_id: str) -> Mode:
        """Return one mode; raises UnknownSampleError, listing some ids, where there is none."""
        for mode in self.modes:
            if mode.id == mode_id:
                return mode
        known = ", ".join(mode.id for mode in self.modes[:5]) or "none; run `failsearch modes`"
        more = " …" if len(self.modes) > 5 else ""
        raise UnknownSampleError(f"no mode {mode_id!r} in the index (there are {known}{more})")

    def changed_since(self, earlier: "ModeReport") -> set[str]:
        """Return the ids that stood for other members, or for none; names do not matter."""
        now, then = (
            {(mode.id, frozenset(mode.samples)) for mode in one.modes} for one in (self, earlier)
        )
        return {mode for mode, _ in now ^ then}

    def to_json(self) -> dict[str, Any]:
        """Return {modes: […], ungrouped: […], settings: {…}}, JSON-ready."""
        return {
            "modes": [mode.to_json() for mode in self.modes],
            "ungrouped": list(self.ungrouped),
            "settings": self.settings.to_json(),
            "edited": self.edited,
        }

    def to_arrow(self) -> pa.Table:
        """Return one row a mode, with lists of samples, confusions and filters."""
        return pa.Table.from_pylist([mode.to_json() for mode in self.modes], schema=MODE_SCHEMA)

    def to_pandas(self) -> "pd.DataFrame":
        """Return `to_arrow` as a data frame; needs pandas."""
        return self.to_arrow().to_pandas()

    def _repr_html_(self) -> str:
        rows = "".join(_html_row(_cells(mode)) for mode in self.modes)
        head = "".join(f"<th>{title}</th>" for title in _TITLES)
        return (
            f"<table><caption>{len(self)} failure modes, {len(self.ungrouped)} failures ungrouped"
            f"</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


_TITLES = ("id", "mode", "size", "confusions", "cohesion", "filters")


def _cells(mode: Mode) -> Iterable[str]:
    confusions = (f"{c.label_name} → {c.prediction_name} {c.count}" for c in mode.confusions[:3])
    filters = (f"{f.layer}:{f.filter}" for f in mode.filters[:3])
    return (
        mode.id,
        mode.name,
        str(mode.size),
        ", ".join(confusions),
        f"{mode.cohesion:.2f}",
        ", ".join(filters),
    )


def _html_row(cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _lists(document: dict[str, Any]) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in document.items()
    }
