"""Commands that look things up: neighbours of a failure, and lists of failures."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from indexer.errors import SettingError
from search.destination import check_export, check_file

from .options import DEFAULT_DB, Db, Device, Filters, Json, flag
from .output import emit, table, visible

if TYPE_CHECKING:
    import pyarrow as pa

    from search.results import SearchResult

Among = Annotated[
    Literal["failures", "all"], typer.Option(help="Look among failures, or all samples.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(search)
    app.command()(failures)


def search(
    samples: Annotated[
        list[str] | None,
        typer.Argument(
            help="Id of a sample; several are searched for by their mean.", metavar="ID"
        ),
    ] = None,
    db: Db = DEFAULT_DB,
    image: Annotated[
        Path | None, typer.Option(help="Search with an image of your own.", metavar="FILE")
    ] = None,
    label: Annotated[str | None, typer.Option(help="True class of --image.")] = None,
    k: Annotated[int, typer.Option("-k", help="Number of neighbours.")] = 10,
    among: Among = "failures",
    filters: Filters = None,
    exact: Annotated[bool, flag("--exact", help="Never use the approximate index.")] = False,
    exact_if_unsure: Annotated[
        bool,
        flag(
            "--exact-if-unsure",
            help="Search exactly where its measured bound does not show an answer complete.",
        ),
    ] = False,
    ids_from: Annotated[
        str | None,
        typer.Option(help="Search for every id in this file, one a line; - reads stdin."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --ids-from: write .parquet, .arrow, .csv or .jsonl instead of a table."
        ),
    ] = None,
    montage: Annotated[
        Path | None, typer.Option(help="Draw the query and its neighbours.", metavar="PNG")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the images that break the model the same way: cosine neighbours of the profile."""
    import failsearch

    if montage is not None:
        check_file(montage)
    index = failsearch.open(db)
    method = "exact" if exact else "auto"
    if ids_from is not None:
        if samples or image:
            raise SettingError("--ids-from stands alone: drop the id or the image")
        if montage is not None:
            raise SettingError("--montage draws one search: drop --ids-from or --montage")
        if out is not None:
            check_export(out)
        import pyarrow as pa

        batches = index.search_many(
            _read_ids(ids_from), k=k, among=among, filters=tuple(filters or ()), method=method
        )
        _emit_batch(pa.Table.from_batches(batches), out, as_json)
        return
    if out is not None:
        raise SettingError("--out goes with --ids-from: use --json or --montage for one search")
    result = index.search(
        samples,
        image=image,
        label=label,
        k=k,
        among=among,
        filters=tuple(filters or ()),
        method=method,
        exact_if_unsure=exact_if_unsure,
        device=device,
    )
    if montage is not None:
        from failsearch.pictures import neighbours_montage, save_picture

        save_picture(neighbours_montage(index.store, result), montage)
    emit(result.to_json(), as_json, lambda console: _show(result, console))


def _show(result: "SearchResult", console: Console) -> None:
    for query in result.queries:
        console.print(
            f"query {visible(query.id)}: {query.pair}, loss {query.loss:.2f}", markup=False
        )
    console.print(
        table(
            ("score", "id", "label → prediction", "confidence", "shared filters"),
            [
                (
                    neighbour.score,
                    neighbour.sample.id,
                    neighbour.sample.pair,
                    neighbour.sample.confidence,
                    " ".join(str(item) for item in neighbour.shared_filters[:3]),
                )
                for neighbour in result.neighbours
            ],
        )
    )
    if not result.complete:
        console.print(
            "Approximate: not shown complete by the index's measured error bound; "
            "--exact settles it."
        )


def _read_ids(source: str) -> list[str]:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingError(f"cannot read ids from {source}: {reason}") from error
    ids = [line.strip() for line in text.splitlines() if line.strip()]
    if not ids:
        where = "stdin" if source == "-" else source
        raise SettingError(f"{where} holds no ids: write one a line")
    return ids


def _emit_batch(found: "pa.Table", out: Path | None, as_json: bool) -> None:
    if out is not None:
        from search.export import write_table

        write_table(found, out)
        emit(
            {"rows": len(found), "file": str(out)},
            as_json,
            lambda console: console.print(f"wrote {out}", markup=False),
        )
        return
    columns = ["query", "rank", "score", "id", "label_name", "prediction_name", "confidence"]
    rows = found.select(columns).to_pylist()
    emit(
        {"neighbours": found.to_pylist()},
        as_json,
        lambda console: console.print(table(columns, [tuple(row.values()) for row in rows])),
    )


def failures(
    db: Db = DEFAULT_DB,
    filters: Filters = None,
    sort: Annotated[
        str, typer.Option(help="Column to sort by; a leading minus sorts descending.")
    ] = "-loss",
    limit: Annotated[
        int | None, typer.Option(help="Most samples to list; the table shows 20 by default.")
    ] = None,
    among: Among = "failures",
    mode: Annotated[
        str | None, typer.Option(help="Only members of this failure mode.", metavar="ID")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Write .csv, .parquet, .arrow or .jsonl; or, to a folder, images by pair.",
            metavar="PATH",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List misclassified samples, sorted and filtered, or export them."""
    import failsearch

    index = failsearch.open(db)
    if export is not None:
        check_export(export, folders=True)
    shown = limit if limit is not None or as_json or export else 20
    listing = index.failures(
        filters=tuple(filters or ()), sort=sort, limit=shown, among=among, mode=mode
    )
    written = index.export(listing, export) if export is not None else None

    def show(console: Console) -> None:
        if written is not None:
            console.print(f"wrote {written} samples to {export}", markup=False)
            return
        if not listing.total:
            what = "failures" if among == "failures" else "samples"
            console.print(f"No {what}{' match' if filters or mode else ''}.")
            return
        console.print(
            table(
                ("id", "label → prediction", "confidence", "loss", "margin"),
                [(s.id, s.pair, s.confidence, s.loss, s.margin) for s in listing],
            )
        )
        if len(listing) < listing.total:
            console.print(f"… {len(listing)} of {listing.total}; --limit shows more.")

    document = listing.to_json()
    if written is not None:
        document["written"] = str(export)
    emit(document, as_json, show)
