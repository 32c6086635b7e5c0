"""Commands that keep a database quick, sound and small."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from indexer.progress import track
from search.words import percent

from .options import DEFAULT_DB, Db, Json, flag
from .output import emit, table


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(build_ann)
    app.command()(check)
    app.command()(compact)
    app.command()(relocate)


def build_ann(
    db: Db = DEFAULT_DB,
    partitions: Annotated[
        int | None, typer.Option(help="Partitions; one per 4,096 samples by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build the approximate index (IVF_RQ, cosine) and measure its recall on failures."""
    import failsearch

    report = failsearch.open(db).build_ann(partitions=partitions, progress=track)

    def show(console: Console) -> None:
        console.print(
            f"{report.rows} profiles indexed in {report.seconds:.1f} s, "
            f"{report.bytes / 2**20:.1f} MiB; recall@10 {report.recall:.3f} over "
            f"{report.queries} failures, {percent(report.complete, 2)} of the answers shown "
            "complete by its measured bound."
        )
        for among, exact in report.exact_ms.items():
            console.print(f"among {among}: exact {exact:.1f} ms, ann {report.ann_ms[among]:.1f} ms")

    emit(vars(report), as_json, show)


def check(db: Db = DEFAULT_DB, as_json: Json = False) -> None:
    """Read the database from end to end and say what is wrong; exit code 1 where something is."""
    from indexer.check import check_database

    report = check_database(db, track)
    document = {
        "path": str(report.path),
        "ok": report.ok,
        "findings": [vars(finding) for finding in report.findings],
    }

    def show(console: Console) -> None:
        rows = [("ok" if f.ok else "WRONG", f.check, f.detail) for f in report.findings]
        console.print(table(("", "check", "detail"), rows))

    emit(document, as_json, show)
    if not report.ok:
        raise typer.Exit(1)


def compact(
    db: Db = DEFAULT_DB,
    caches: Annotated[
        bool, flag("--caches", help="Drop the search caches too; they build themselves.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Merge fragments, delete old versions and say how much space that freed."""
    from indexer.compact import compact_database
    from indexer.store import Store
    from search.cache import clear

    dropped = clear(Store.open(db)) if caches else 0
    report = compact_database(db)
    freed = report.freed + dropped
    document = {
        "path": str(report.path),
        "bytes_before": report.bytes_before + dropped,
        "bytes_after": report.bytes_after,
        "freed": freed,
        "files_removed": report.files_removed,
        "tables": report.tables,
    }

    def show(console: Console) -> None:
        console.print(
            f"{report.path}: freed {freed / 2**20:.1f} MiB, "
            f"{report.bytes_after / 2**20:.1f} MiB remain.",
            markup=False,
        )

    emit(document, as_json, show)


def relocate(
    db: Db = DEFAULT_DB,
    model: Annotated[
        str | None, typer.Option(help="The model, as `index` takes it.", metavar="MODEL")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The model's weights.", metavar="FILE")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="A data set; just NEW where there is only one.", metavar="OLD=NEW"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell an index where its model and data are now, if they are still the same."""
    from indexer.relocate import relocate as point_to

    manifest = point_to(db, model=model, checkpoint=checkpoint, data=data or ())
    document = {"model": manifest.model, "data": [source["path"] for source in manifest.sources]}

    def show(console: Console) -> None:
        console.print(f"model: {manifest.model['spec']}", markup=False)
        if manifest.model["checkpoint"] is not None:
            console.print(f"checkpoint: {manifest.model['checkpoint']}", markup=False)
        for path in document["data"]:
            console.print(f"data: {path}", markup=False)

    emit(document, as_json, show)
