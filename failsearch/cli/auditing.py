"""The command that audits the data set."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from indexer.errors import SettingError
from indexer.progress import track
from search.destination import check_export, check_file, check_folder

from .options import DEFAULT_DB, Db, Device, Json, flag
from .output import emit, table

if TYPE_CHECKING:
    from failsearch.index import Index
    from indexer.store import Store
    from search.audit.report import AuditReport, Finding

FEW = 30
"""Failures up to which it is no news that no filter stands out."""
SHOWN = 10
"""Findings of each kind that are printed; all are in the database and the export."""


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(audit)


def audit(
    db: Db = DEFAULT_DB,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="labels, duplicates, causes, filters, cleanlab or images (cleanlab's image "
            "checks); repeat; the first four by default."
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Findings kept of each kind.", min=1)] = 100,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Another index, such as the training set's, to look for leaks.", metavar="DIR"
        ),
    ] = None,
    relabel: Annotated[
        bool,
        flag(
            "--relabel",
            help="Profile label suspects under the suggested label as well; loads the model.",
        ),
    ] = False,
    deep: Annotated[
        bool,
        flag(
            "--deep",
            help="Show the model shifted and mirrored copies of label suspects: finds more where "
            "it was trained on these labels; loads the model.",
        ),
    ] = False,
    forget: Annotated[
        bool,
        flag(
            "--forget",
            help="Go --deep, then train a copy of the model for 150 steps on all other samples "
            "and ask it about the suspects: finds still more, but only where the model was "
            "trained on these images; takes minutes without a GPU.",
        ),
    ] = False,
    cleanlab: Annotated[
        bool,
        flag(
            "--cleanlab",
            help="Add the kinds cleanlab and images; needs pip install 'failsearch\\[audit]'.",
        ),
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write .csv, .parquet, .arrow or .jsonl.", metavar="FILE")
    ] = None,
    montage: Annotated[
        Path | None, typer.Option(help="Draw the first 30 label suspects.", metavar="PNG")
    ] = None,
    atlas: Annotated[
        Path | None,
        typer.Option(
            help="Write the failures with image, map and neighbours for Embedding Atlas.",
            metavar="PARQUET",
        ),
    ] = None,
    fiftyone: Annotated[
        Path | None,
        typer.Option(
            help="Write the failures with labels, predictions and modes for FiftyOne.",
            metavar="DIR",
        ),
    ] = None,
    graph: Annotated[
        Path | None,
        typer.Option(
            help="Write the neighbour graph of embeddings for cleanlab, as scipy's npz.",
            metavar="NPZ",
        ),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Look for wrong labels, duplicates, leaks, shared causes and weak filters, with reasons."""
    import failsearch
    from search.audit.settings import DUPLICATES, EXTRAS, KINDS, LABELS

    kinds = tuple(dict.fromkeys((*(kind or KINDS), *(EXTRAS if cleanlab else ()))))
    if export is not None:
        check_export(export)
    if atlas is not None:
        check_file(atlas, ".parquet")
    if graph is not None:
        check_file(graph, ".npz")
    if fiftyone is not None:
        check_folder(fiftyone)
    if montage is not None:
        check_file(montage)
        if LABELS not in kinds:
            raise SettingError(f"--montage draws label suspects: add --kind {LABELS}")
    if against is not None and DUPLICATES not in kinds:
        raise SettingError(f"--against looks for leaks: add --kind {DUPLICATES}")
    index = failsearch.open(db)
    report = index.audit(
        against=failsearch.open(against) if against else None,
        relabel=relabel,
        deep=deep,
        forget=forget,
        device=device,
        progress=track,
        top=top,
        kinds=kinds,
    )
    written = _write(index, report, export, montage, atlas, fiftyone, graph)

    def show(console: Console) -> None:
        names = _mode_names(index)
        for name in report.kinds:
            heading = f"\n{name}: {_count(name, report, top, index.store)}"
            console.print(heading, style="bold", markup=False)
            _show(report.of(name), names, console)
        if written:
            console.print()
        for line in written.values():
            console.print(f"wrote {line}", markup=False)

    document = report.to_json()
    emit(document | ({"written": list(written)} if written else {}), as_json, show)


def _write(
    index: "Index",
    report: "AuditReport",
    export: Path | None,
    montage: Path | None,
    atlas: Path | None,
    fiftyone: Path | None,
    graph: Path | None,
) -> dict[str, str]:
    """Write what was asked for; return the paths, each with a line on what it is good for."""
    written = {}
    if export is not None:
        from search.export import write_table

        write_table(report.to_arrow(), export)
        written[str(export)] = f"{len(report)} findings to {export}"
    if montage is not None:
        from failsearch.pictures import labels_montage, save_picture
        from search.audit.settings import LABELS

        if report.of(LABELS):
            save_picture(labels_montage(index.store, report), montage)
            written[str(montage)] = f"the first label suspects to {montage}"
        else:
            print(f"there are no label suspects: {montage} is not written", file=sys.stderr)
    if atlas is not None:
        count = index.export_atlas(atlas)
        written[str(atlas)] = (
            f"{count} failures; open them with `embedding-atlas {atlas} --image image --x x --y y "
            "--neighbors neighbors`"
        )
    if fiftyone is not None:
        count = index.export_fiftyone(fiftyone)
        written[str(fiftyone)] = (
            f"{count} failures to {fiftyone}; docs/tools.md says how to open them"
        )
    if graph is not None:
        from search.audit.exchange import write_knn_graph

        write_knn_graph(index.store, graph)
        written[str(graph)] = f"the neighbour graph to {graph}, for scipy.sparse.load_npz"
    return written


def _mode_names(index: "Index") -> dict[str, str]:
    from search.modes import known_modes

    report = known_modes(index.store)
    return {} if report is None else {mode.id: mode.name for mode in report.modes}


def _show(found: "Sequence[Finding]", names: dict[str, str], console: Console) -> None:
    if found:
        rows = [(f.score, _subject(f, names), f.reason) for f in found[:SHOWN]]
        console.print(table(("score", "subject", "reason"), rows))


def _subject(finding: "Finding", names: dict[str, str]) -> str:
    """Return what a finding is about; a mode with the name that it has now."""
    about_mode = finding.subject in finding.modes and finding.subject in names
    return f"{finding.subject} {names[finding.subject]}" if about_mode else finding.subject


def _count(kind: str, report: "AuditReport", top: int, store: "Store") -> str:
    """Say how many findings of a kind there are, were kept and are shown."""
    from search.audit.settings import FILTERS, LEAKS
    from search.modes.evidence import FAILURES

    found = report.of(kind)
    total = report.total(kind)
    if kind == FILTERS and not total and (failures := store.count(FAILURES)):
        few = " are too few to tell" if failures <= FEW else ""
        return f"no filter stands out ({failures} failure{'s' * (failures != 1)}{few})"
    many = f"{total:,} finding{'s' * (total != 1)}"
    if kind == LEAKS and found:
        other = found[0].evidence["other_index"]
        many = f"{total:,} of {store.count():,} images are in {other} too"
    if total > len(found):
        many += f", the first {len(found):,} kept"
    elif kind not in report.totals and len(found) == top:
        many += ", as many as --top keeps"
    return many + f"; the first {SHOWN}" * (len(found) > SHOWN)
