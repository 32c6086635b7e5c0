"""What a run is, and whether two runs fit together.

The manifest is written last: a database folder without one is an unfinished run.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import IncompatibleIndexError
from .filters import FilterLayout
from .schema import SCHEMA_VERSION

MANIFEST_FILE = "manifest.json"

IDENTITY = (
    ("model", "weights_digest"),
    ("model", "architecture"),
    ("transform", None),
    ("classes", None),
    ("units", None),
    ("aggregation", None),
    ("signed", None),
    ("precision", None),
    ("profile_dtype", None),
    ("layout", None),
)
"""Fields (and keys within them) in which two runs must agree to share one table."""


@dataclass(frozen=True)
class Manifest:
    """Everything needed to repeat a run or to add to it.

    Attributes:
        model: spec, checkpoint, architecture, weights_digest (sha256 over names, shapes, bytes).
        transform: input_size, mean, std, interpolation, crop_pct, crop_mode.
        classes: class names by model output.
        units: "conv", "linear" or "all".
        aggregation: "filter" or "layer".
        signed: whether profiles keep the sign of z.
        precision: "fp32", "tf32", "bf16", "amp" or "fp64".
        profile_dtype: storage type of the profile column.
        layout: columns of a profile.
        sources: data sets in the order they came: kind, path, fingerprint, options.
        batch_size: images a batch; part of a run's identity while it is being resumed.
        embedding: length of the embedding column or None.
        engine: "fast", or "reference" where the fast engine refused the model or disagreed.
        versions: package versions that made the run.
        created: ISO 8601 time in UTC.
        schema_version: version of the table's columns.
    """

    model: dict[str, Any]
    transform: dict[str, Any]
    classes: tuple[str, ...]
    units: str
    aggregation: str
    signed: bool
    precision: str
    profile_dtype: str
    layout: FilterLayout
    sources: tuple[dict[str, Any], ...]
    batch_size: int
    embedding: int | None
    engine: str = "fast"
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**asdict(self), "layout": self.layout.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Manifest":
        """Rebuild a manifest.

        Raises:
            IncompatibleIndexError: the document was written by a newer schema.
        """
        version = document.get("schema_version", 0)
        if version > SCHEMA_VERSION:
            raise IncompatibleIndexError(
                f"the index has schema version {version}, this failsearch reads up to "
                f"{SCHEMA_VERSION}: upgrade failsearch"
            )
        values = dict(document)
        values["layout"] = FilterLayout.from_json(values["layout"])
        values["classes"] = tuple(values["classes"])
        values["sources"] = tuple(values["sources"])
        return cls(**values)

    def differences(self, other: "Manifest") -> list[str]:
        """Return one sentence for each identity field in which the two runs differ."""
        found = []
        for name, key in IDENTITY:
            mine, theirs = getattr(self, name), getattr(other, name)
            if key is not None:
                mine, theirs = mine.get(key), theirs.get(key)
            if name == "layout":
                if mine != theirs:
                    found.append(f"layout: {len(mine)} units in the index, {len(theirs)} given")
            elif _plain(mine) != _plain(theirs):
                label = name if key is None else f"{name} {key}"
                found.append(f"{label}: {_brief(mine)} in the index, {_brief(theirs)} given")
        return found

    def require_same_run(self, other: "Manifest") -> None:
        """Raise IncompatibleIndexError naming every difference, if there is one."""
        found = self.differences(other)
        if found:
            raise IncompatibleIndexError(
                f"this index was made by another run ({'; '.join(found)}): "
                "use the same settings or another --db"
            )


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a database folder; None where the run was never finished.

    Raises:
        IncompatibleIndexError: it cannot be read, or was written by a newer schema.
    """
    path = folder / MANIFEST_FILE
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IncompatibleIndexError(
            f"{path} is not readable JSON ({error}): restore it, or index the data again"
        ) from error
    try:
        return Manifest.from_json(document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise IncompatibleIndexError(
            f"{path} is no manifest of an index ({error!r}): restore it, or index the data again"
        ) from error


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
