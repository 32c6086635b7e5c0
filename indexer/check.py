"""`failsearch check`: read an index from end to end and say what is wrong with it."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from .copies import CACHE_FOLDER
from .durability import TEMPORARY
from .errors import FailsearchError, StoreError
from .lance_footer import INDEX_SUFFIX, short_files
from .lock import LOCK_FILE
from .manifest import MANIFEST_FILE, Manifest
from .progress import Progress, Tracker, silent
from .schema import ANN_REPORT, EMBEDDING, ID, LOGITS, PROFILE, REPAIRS, SAMPLES, SIGNS
from .spool import SPOOL_FOLDER
from .statistics import SMALLEST_DEVIATION, Statistics
from .store import STATISTICS_FILE, Store
from .versions import (
    ACKNOWLEDGED_FILE,
    SET_ASIDE_FOLDER,
    orphans,
    read_acknowledged,
    table_folder,
    table_names,
)

READ_ROWS = 512
NAMED = 5
"""Foreign files and folders that are named."""
_OWN = {
    *(MANIFEST_FILE, STATISTICS_FILE, ACKNOWLEDGED_FILE, LOCK_FILE, ANN_REPORT),
    *(SPOOL_FOLDER, SET_ASIDE_FOLDER, CACHE_FOLDER, REPAIRS),
}
_COLUMNS = (ID, "source", "label", "prediction", "correct", SIGNS, PROFILE)
_UNREADABLE = (RuntimeError, ValueError, OSError, FailsearchError)
"""What reading a damaged table raises."""


@dataclass(frozen=True)
class CheckFinding:
    """The outcome of one check.

    Attributes:
        check: what was looked at.
        ok: whether it is as it should be.
        detail: figures, or what is wrong and what to do; one line.
    """

    check: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """Everything that was looked at."""

    path: Path
    findings: tuple[CheckFinding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.ok for finding in self.findings)


@dataclass
class _Sums:
    """What one pass over the samples gathers."""

    ids: set[str]
    rows: int = 0
    repeated: int = 0
    misplaced: int = 0
    not_finite: int = 0
    zero: int = 0
    smallest_norm: float = np.inf
    largest_norm: float = 0.0
    first_rows: int = 0
    z: np.ndarray | float = 0.0
    z_squared: np.ndarray | float = 0.0


def check_database(path: str | Path, progress: Progress = silent) -> CheckReport:
    """Check manifest, statistics, ids, classes, vectors, tables and leftovers of an index.

    Args:
        path: folder of the index.
        progress: shows how many rows were read.

    Raises:
        StoreError: there is no finished index to check.
    """
    store = Store.open(path)
    with progress("Checking", _rows_to_read(store), 0) as tracker:
        return CheckReport(store.path, tuple(_findings(store, tracker)))


def _rows_to_read(store: Store) -> int:
    """Return the rows of all tables, with the samples twice: whole, and again for what they say."""
    total = 0
    for name in table_names(store.path):
        with suppress(*_UNREADABLE):  # which the check of the table says
            total += store.table(name).count_rows() * (2 if name == SAMPLES else 1)
    return total


def _findings(store: Store, tracker: Tracker) -> Iterator[CheckFinding]:
    manifest = store.manifest
    yield CheckFinding("manifest", True, f"schema version {manifest.schema_version}")
    try:
        statistics = store.statistics
    except StoreError as error:
        statistics = None
        yield CheckFinding("statistics", False, f"{error}: index the data again")
    readable = True
    for finding in _check_tables(store, tracker):
        readable = readable and (finding.ok or finding.check != f"table {SAMPLES}")
        yield finding
    if readable:
        schema = store.table(SAMPLES).schema
        yield _check_columns(schema, manifest)
        sums = _pass(store, manifest, statistics, tracker)
        yield from _check_rows(sums, manifest)
        if statistics is not None:
            yield _check_statistics(sums, manifest, statistics)
    yield _check_leftovers(store.path)


def _check_tables(store: Store, tracker: Tracker) -> Iterator[CheckFinding]:
    known = read_acknowledged(store.path)
    for name in table_names(store.path):
        try:
            rows = 0
            for batch in store.table(name).search().to_batches(READ_ROWS):
                rows += len(batch)
                tracker.advance(len(batch))
        except _UNREADABLE as error:
            text = " ".join(str(error).split())[:200]
            yield CheckFinding(f"table {name}", False, f"cannot be read to its end: {text}")
        else:
            yield CheckFinding(f"table {name}", True, f"{rows} rows, version {known.get(name)}")
        for file in short_files(table_folder(store.path, name)):
            if file.suffix == INDEX_SUFFIX:
                way_out = "build it again by `failsearch build-ann`"
                yield CheckFinding("approximate index", False, f"{file.name} lost bytes: {way_out}")
    if SAMPLES not in table_names(store.path):
        yield CheckFinding(f"table {SAMPLES}", False, "is missing: index the data again")


def _check_columns(schema: pa.Schema, manifest: Manifest) -> CheckFinding:
    lengths = {PROFILE: len(manifest.layout), LOGITS: len(manifest.classes)}
    if manifest.embedding is not None:
        lengths[EMBEDDING] = manifest.embedding
    wrong = [
        f"{name} has {schema.field(name).type}, not {length} values"
        for name, length in lengths.items()
        if schema.field(name).type.list_size != length
    ]
    return CheckFinding(
        "columns", not wrong, "; ".join(wrong) or f"{len(schema)} as in the manifest"
    )


def _pass(
    store: Store, manifest: Manifest, statistics: Statistics | None, tracker: Tracker
) -> _Sums:
    sums = _Sums(set())
    for batch in store.scan(_COLUMNS, batch_size=READ_ROWS):
        profiles = batch[PROFILE].flatten().to_numpy(zero_copy_only=False)
        profiles = profiles.reshape(len(batch), -1).astype(np.float64)
        sums.rows += len(batch)
        ids = batch[ID].to_pylist()
        sums.repeated += len(ids) - len(set(ids) - sums.ids)
        sums.ids.update(ids)
        _add_classes(sums, batch, manifest)
        _add_norms(sums, profiles)
        if statistics is not None and statistics.mean.shape == profiles.shape[1:]:
            _add_z(sums, batch, profiles, manifest.signed)
        tracker.advance(len(batch))
    return sums


def _add_classes(sums: _Sums, batch: pa.RecordBatch, manifest: Manifest) -> None:
    names = ("label", "prediction", "source")
    label, prediction, source = (batch[name].to_numpy(zero_copy_only=False) for name in names)
    correct = batch["correct"].to_numpy(zero_copy_only=False)
    limits = ((label, manifest.classes), (prediction, manifest.classes), (source, manifest.sources))
    inside = [(values >= 0) & (values < len(limit)) for values, limit in limits]
    fine = np.logical_and.reduce([*inside, correct == (label == prediction)])
    sums.misplaced += int((~fine).sum())


def _add_norms(sums: _Sums, profiles: np.ndarray) -> None:
    norms = np.linalg.norm(profiles, axis=1)
    finite = norms[np.isfinite(norms)]
    sums.not_finite += len(norms) - len(finite)
    sums.zero += int((finite == 0).sum())
    sums.smallest_norm = min(sums.smallest_norm, finite.min(initial=np.inf))
    sums.largest_norm = max(sums.largest_norm, finite.max(initial=0.0))


def _add_z(sums: _Sums, batch: pa.RecordBatch, profiles: np.ndarray, signed: bool) -> None:
    """Sum z and z² over the first data set, which made the statistics."""
    first = batch["source"].to_numpy(zero_copy_only=False) == 0
    z = profiles[first]
    if not signed and len(z):
        packed = np.frombuffer(b"".join(batch[SIGNS].to_pylist()), np.uint8)
        signs = np.unpackbits(packed.reshape(len(batch), -1), axis=1, count=z.shape[1])
        z = np.where(signs[first], -z, z)
    sums.first_rows += len(z)
    sums.z = sums.z + z.sum(axis=0)
    sums.z_squared = sums.z_squared + (z**2).sum(axis=0)


def _check_rows(sums: _Sums, manifest: Manifest) -> Iterator[CheckFinding]:
    yield CheckFinding(
        "ids",
        not sums.repeated,
        f"{sums.repeated} of {sums.rows} are there twice" if sums.repeated else "unique",
    )
    yield CheckFinding(
        "classes",
        not sums.misplaced,
        f"{sums.misplaced} samples with a label, prediction or source that does not exist"
        if sums.misplaced
        else f"labels and predictions among {len(manifest.classes)} classes",
    )
    detail = f"norms from {sums.smallest_norm:.4g} to {sums.largest_norm:.4g}"
    if sums.not_finite:
        detail = f"{sums.not_finite} profiles are not finite"
    elif sums.zero:
        detail += f"; {sums.zero} profiles are zero and have no cosine"
    yield CheckFinding("vectors", not sums.not_finite, detail)


def _check_statistics(sums: _Sums, manifest: Manifest, statistics: Statistics) -> CheckFinding:
    """Over the set that made the statistics, z has mean 0 and deviation 1 in every unit."""
    if statistics.mean.shape != (len(manifest.layout),):
        detail = f"{len(statistics.mean)} units, the manifest has {len(manifest.layout)}"
        return CheckFinding("statistics", False, detail)
    if sums.first_rows != statistics.count:
        detail = f"made of {statistics.count} samples, the table has {sums.first_rows} of them"
        return CheckFinding("statistics", False, detail)
    mean = np.abs(np.asarray(sums.z) / statistics.count)
    spread = np.sqrt(np.asarray(sums.z_squared) / max(statistics.count - 1, 1))
    # A unit that hardly ever saw a gradient counts as one of deviation 1.
    moving = spread * statistics.deviation > SMALLEST_DEVIATION
    error = max(mean[moving].max(initial=0.0), np.abs(spread[moving] - 1).max(initial=0.0))
    return CheckFinding(
        "statistics",
        bool(error < 1e-2),
        f"{len(statistics.mean)} units over {statistics.count} samples, off by {error:.1g}",
    )


def _check_leftovers(database: Path) -> CheckFinding:
    found = [path for name in table_names(database) for path in orphans(database, name)]
    found += list(database.glob(f"{SET_ASIDE_FOLDER}/*"))
    size = sum(path.stat().st_size for path in found)
    parts, foreign = [], _foreign(database)
    if found:
        parts.append(f"{len(found)} files ({size / 2**20:.1f} MiB) that nothing refers to")
    if (database / SPOOL_FOLDER).exists():
        parts.append("an interrupted `failsearch add` that waits to be repeated")
    details = [f"{'; '.join(parts)}: see `failsearch compact`"] if parts else []
    if foreign:
        named = ", ".join(map(repr, foreign[:NAMED])) + " …" * (len(foreign) > NAMED)
        details.append(f"{named} not of the index: move elsewhere")
    return CheckFinding("leftovers", True, "; ".join(details) or "none")


def _foreign(database: Path) -> list[str]:
    """Return the names of what lies in an index and is not its own, sorted."""
    names = {path.name for path in database.iterdir()} - _OWN
    return sorted(name for name in names if not name.endswith((".lance", TEMPORARY)))
