"""The command that audits the data set."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .options import DEFAULT_DB, Db, Device, Json
from .output import check_export, emit, table


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(audit)


def audit(
    db: Db = DEFAULT_DB,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="labels, duplicates, causes or filters; repeat; all by default."),
    ] = None,
    top: Annotated[int, typer.Option(help="Findings kept of each kind.")] = 100,
    against: Annotated[
        Path | None,
        typer.Option(help="Another index, such as the training set's, to look for leaks."),
    ] = None,
    relabel: Annotated[
        bool,
        typer.Option(
            "--relabel",
            help="Profile label suspects under the suggested label as well; loads the model.",
        ),
    ] = False,
    cleanlab: Annotated[
        bool,
        typer.Option("--cleanlab", help="Ask cleanlab too; needs pip install 'failsearch[audit]'."),
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
            help="Write the failures with map and neighbours for Embedding Atlas.",
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
    from search.audit.settings import CLEANLAB, KINDS

    if export is not None:
        check_export(export)
    index = failsearch.open(db)
    kinds = tuple(kind or KINDS) + ((CLEANLAB,) if cleanlab else ())
    report = index.audit(
        against=failsearch.open(against) if against else None,
        relabel=relabel,
        device=device,
        top=top,
        kinds=kinds,
    )
    if export is not None:
        from search.export import write_table

        write_table(report.to_arrow(), export)
    if atlas is not None:
        from search.audit.exchange import atlas_table
        from search.export import write_table

        write_table(atlas_table(index.store), atlas, "parquet")
    if fiftyone is not None:
        index.export_fiftyone(fiftyone)
    if graph is not None:
        from search.audit.exchange import write_knn_graph

        write_knn_graph(index.store, graph)
    if montage is not None:
        from failsearch.pictures import labels_montage, save_picture

        save_picture(labels_montage(index.store, report), montage)

    def show(console: Console) -> None:
        for name in report.kinds:
            found = report.of(name)
            console.print(f"\n{name}: {len(found)} findings", style="bold")
            console.print(
                table(
                    ("score", "subject", "reason"),
                    [(f.score, f.subject, f.reason) for f in found[:10]],
                )
            )

    emit(report.to_json(), as_json, show)
