"""Commands that describe an index."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from search.words import percent

from .options import DEFAULT_DB, Db, Json, flag
from .output import emit, table

if TYPE_CHECKING:
    from failsearch.info import IndexInfo

REASONS = 5
"""Reasons for rejections that are counted one by one."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(info)


def info(
    db: Db = DEFAULT_DB,
    rejects: Annotated[
        bool, flag("--rejects", help="List every rejected row with its reason.")
    ] = False,
    engine: Annotated[
        bool, flag("--engine", help="Say how each layer is profiled, and why.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Describe the index: model, data, accuracy, profiles, search path and what was rejected."""
    import failsearch

    index = failsearch.open(db)
    found = index.info()
    rejected = index.rejects().to_pylist() if rejects else []
    paths = index.engine_paths() if engine else []
    document = found.to_json()
    if rejects:
        document["rejects_list"] = rejected
    if engine:
        document["engine"] = [
            {"layer": layer, "path": path, "reason": reason} for layer, path, reason in paths
        ]

    def show(console: Console) -> None:
        console.print(table(("", ""), _lines(found)))
        if rejected:
            rows = [(row["id"], row["ref"], row["reason"]) for row in rejected]
            console.print(table(("rejected", "where", "reason"), rows))
        if paths:
            console.print(table(("layer", "path", "reason"), paths))

    emit(document, as_json, show)


def _search_line(search: dict[str, Any]) -> str:
    ways = {"exact": "exact", "ann": "approximate"}
    line = ", ".join(
        f"{ways[search['path'][among]]} among {among} (about {ms:.1f} ms)"
        for among, ms in search["expected_ms"].items()
    )
    line += f"; approximate index {search['ann']}"
    if search["report"] is not None:
        line += f", recall@10 {search['report']['recall']:.3f}"
    if search["unindexed"]:
        line += f", {search['unindexed']} samples added since: run `failsearch build-ann` again"
    return line


def _lines(found: "IndexInfo") -> list[tuple[str, str]]:
    profile = found.profile
    lines = [
        ("index", f"{found.path}, version {found.version}"),
        ("model", f"{found.model['architecture']} from {found.model['spec']}"),
        ("weights", found.model["weights_digest"][:16]),
        ("data", ", ".join(source["path"] for source in found.sources)),
        ("samples", f"{found.samples} in {len(found.classes)} classes"),
        ("accuracy", f"{percent(found.accuracy, 2)}, {found.failures} failures"),
        (
            "profiles",
            f"{found.filters} {profile['units']} units over {found.layers} layers, "
            f"{'signed z' if profile['signed'] else '|z|'}, {profile['precision']}, "
            f"stored as {profile['dtype']}",
        ),
        ("search", _search_line(found.search)),
        ("modes", "not looked for yet" if found.modes is None else str(found.modes)),
        ("repairs", str(found.repairs)),
        ("rejected", f"{found.rejects} rows" if found.rejects else "none"),
    ]
    lines += [("", f"{count} × {reason}") for reason, count in found.reasons[:REASONS]]
    if rest := sum(count for _, count in found.reasons[REASONS:]):
        lines.append(("", f"{rest} for other reasons: `failsearch info --rejects`"))
    return lines
