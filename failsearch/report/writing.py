"""From an index to its report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.durability import disk_errors, replace_file
from indexer.errors import AbsentError, SettingError
from search.audit.report import AuditReport, read_findings
from search.audit.settings import title_of
from search.confusion import ConfusionMatrix
from search.snapshot import snapshot

from ..index import Index
from ..web.environment import ENVIRONMENT, STATIC
from .pictures import InlineThumbnails

MODES_SHOWN = 100
FINDINGS_SHOWN = 20
REPAIRS_SHOWN = 20
AFFECTED_SHOWN = 8


@dataclass(frozen=True)
class ReportSettings:
    """How large a report may become.

    Attributes:
        max_mb: most megabytes (10⁶ bytes) of the file.
    """

    max_mb: float = 10.0

    def __post_init__(self) -> None:
        if not self.max_mb >= 0.2:
            raise SettingError(f"--max-mb {self.max_mb}: a report takes at least 0.2")


def write_report(index: Index, output: Path, settings: ReportSettings | None = None) -> int:
    """Write the report of an index, whole or not at all, and return its size in bytes.

    The file needs no other file and no network: style and thumbnails are inside.

    Raises:
        SettingError: `output` is a folder, or the text alone is larger than `max_mb`.
        StoreError: the file cannot be written; folders for it are not made.
    """
    if output.is_dir():
        raise SettingError(f"{output} is a folder: name a file in it")
    limit = int((settings or ReportSettings()).max_mb * 1e6)
    values = _values(index)
    bare = _render(values, InlineThumbnails(index.store, 0))
    pictures = InlineThumbnails(index.store, limit - len(bare) - 1000)
    if len(bare) > limit:
        raise SettingError(f"the text of the report takes {len(bare) / 1e6:.1f} MB: raise --max-mb")
    pictures.take([mode.exemplars for mode in values["modes"]])
    shown = [finding for found, _ in values["findings"].values() for finding in found]
    pictures.take([(*finding.samples[:6], *finding.beside) for finding in shown])
    for repair in values["repairs"]:
        pictures.take([[row["id"] for row in rows] for rows in repair["affected"].values()])
    data = _render(values, pictures)
    with disk_errors(output), replace_file(output) as file:
        file.write(data)
    return len(data)


def _values(index: Index) -> dict[str, Any]:
    """Gather what the report shows."""
    confusion = ConfusionMatrix.of(snapshot(index.store).samples, index.manifest.classes)
    modes, ungrouped = _modes(index)
    return {
        **confusion.summary(),
        "pairs": confusion.pairs()[:12],
        "worst": confusion.worst_classes()[:12],
        "matrix": confusion.drawn(),
        "modes": modes[:MODES_SHOWN],
        "modes_total": len(modes),
        "ungrouped": ungrouped,
        "names": {mode.id: mode.name for mode in modes},
        "findings": _findings(index),
        "repairs": _repairs(index),
        "manifest": index.manifest,
        "database": index.path.name,
        "style": (STATIC / "app.css").read_text(encoding="utf-8"),
    }


def _render(values: dict[str, Any], pictures: InlineThumbnails) -> bytes:
    template = ENVIRONMENT.get_template("report.html")
    return template.render(**values, picture=pictures, left_out=pictures.left_out).encode()


def _modes(index: Index) -> tuple[tuple[Any, ...], int]:
    try:
        report = index.modes
    except AbsentError:
        return (), 0
    return report.modes, len(report.ungrouped)


def _findings(index: Index) -> dict[str, Any]:
    """Return the first findings of each kind by its title, and how many there are of it."""
    try:
        report = read_findings(index.store)
    except AbsentError:
        report = AuditReport((), ())
    return {
        title_of(kind): (found[:FINDINGS_SHOWN], report.total(kind))
        for kind in report.kinds
        if (found := report.of(kind))
    }


def _repairs(index: Index) -> list[dict[str, Any]]:
    """Return the latest repairs, each with some of the samples that it fixed and broke."""
    shown, classes = [], index.manifest.classes
    for report in index.repairs[::-1][:REPAIRS_SHOWN]:
        _, samples = index.read_repair(report["id"])
        affected: dict[str, list[dict[str, Any]]] = {"fixed": [], "broken": []}
        for row in samples.to_pylist():
            group = affected.get(row["change"])
            if group is not None and len(group) < AFFECTED_SHOWN:
                names = {key: classes[row[key]] for key in ("before", "after")}
                group.append({"id": row["id"], **names})
        shown.append({**report, "affected": affected})
    return shown
