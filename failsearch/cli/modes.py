"""The command that groups failures into modes and shows them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from indexer.errors import SettingError
from indexer.progress import track
from search.destination import check_file
from search.words import percent

from .options import DEFAULT_DB, Db, Json, Seed, flag
from .output import emit, table

if TYPE_CHECKING:
    from failsearch.index import Index
    from search.modes import Mode, ModeReport

GROUPING = ("resolution", "min_size", "neighbours", "seed", "replace")
"""Options that only finding modes heeds."""
MEMBERS_DRAWN = 24
WIDE = 120
"""Columns of a terminal from which on the table has room for a filter and an exemplar."""


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(modes)


def modes(
    context: typer.Context,
    mode: Annotated[
        str | None, typer.Argument(help="Id of a stored mode to show in full.", metavar="MODE")
    ] = None,
    db: Db = DEFAULT_DB,
    resolution: Annotated[float, typer.Option(help="Higher gives more and smaller modes.")] = 5.0,
    min_size: Annotated[int, typer.Option(help="Failures that a mode has at least.")] = 8,
    neighbours: Annotated[int, typer.Option(help="Neighbours of each failure in the graph.")] = 10,
    seed: Seed = 0,
    stored: Annotated[bool, flag("--stored", help="Show the modes found last; find none.")] = False,
    replace: Annotated[
        bool, flag("--replace", help="Find anew although modes were edited by hand.")
    ] = False,
    montage: Annotated[
        Path | None,
        typer.Option(
            help="Draw exemplars of the largest modes, or members of MODE.", metavar="PNG"
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="Rows that the table shows.", min=0)] = 20,
    as_json: Json = False,
) -> None:
    """Group the misclassified samples into failure modes and store them, or show a stored mode."""
    import failsearch

    if montage is not None:
        check_file(montage)
    _refuse_grouping(context, mode, stored)
    index = failsearch.open(db)
    if mode is not None:
        _one(index, index.modes.mode(mode), montage, limit, as_json)
        return
    report = (
        index.modes
        if stored
        else index.find_modes(
            replace_edited=replace,
            progress=track,
            resolution=resolution,
            min_size=min_size,
            neighbours=neighbours,
            seed=seed,
        )
    )
    if not report.modes and (kept := len(index.modes)):
        print(
            f"the {kept} modes found before are kept: `failsearch modes --stored`", file=sys.stderr
        )
    if montage is not None:
        from failsearch.pictures import modes_montage, save_picture

        save_picture(modes_montage(index.store, report), montage)
    emit(report.to_json(), as_json, lambda console: _all(report, limit, console))


def _refuse_grouping(context: typer.Context, mode: str | None, stored: bool) -> None:
    shown = "MODE" if mode is not None else "--stored" if stored else None
    for name in GROUPING if shown else ():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            raise SettingError(f"{option} is for finding modes, {shown} finds none: drop one")


def _all(report: "ModeReport", limit: int, console: Console) -> None:
    if not report.modes:
        used = report.settings
        failures = len(report.ungrouped)
        if not failures:
            console.print("No modes: the index has no failures.")
            return
        are = "failure is" if failures == 1 else "failures are"
        console.print(
            f"No modes: {failures} {are} too few or too unlike to group with "
            f"--resolution {used.resolution:g}, --min-size {used.min_size} and "
            f"--neighbours {used.neighbours}."
        )
        return
    hold = "mode holds" if len(report) == 1 else "modes hold"
    console.print(
        f"{len(report)} {hold} {percent(report.grouped_share, 2)} of the failures; "
        f"{len(report.ungrouped)} stay ungrouped."
    )
    columns = ["id", "mode", "size", "cohesion", "confusions", "top filter", "exemplar"]
    rows = [
        (
            mode.id,
            mode.name,
            mode.size,
            mode.cohesion,
            _confusions(mode, 2),
            _filters(mode, 1),
            ", ".join(mode.exemplars[:1]),
        )
        for mode in report.modes[:limit]
    ]
    shown = len(columns) if console.width >= WIDE else columns.index("top filter")
    console.print(table(columns[:shown], [row[:shown] for row in rows]))
    if len(report) > limit:
        console.print(f"… and {len(report) - limit} smaller ones; --limit shows more.")
    console.print(
        f"`failsearch modes {report.modes[0].id}` shows one in full, "
        "`failsearch audit --kind causes` says what its images share."
    )


def _one(index: "Index", mode: "Mode", montage: Path | None, limit: int, as_json: bool) -> None:
    if montage is not None:
        from failsearch.pictures import mode_montage, save_picture

        members = index.samples(mode.samples[:MEMBERS_DRAWN])
        save_picture(mode_montage(index.store, mode, members), montage)

    def show(console: Console) -> None:
        console.print(
            f"{mode.id} {mode.name}: {mode.size} failures, cohesion {mode.cohesion:.3f}",
            markup=False,
        )
        for name, value in (
            ("confusions", _confusions(mode, 6)),
            ("filters", _filters(mode, 6)),
            ("exemplars", ", ".join(mode.exemplars)),
            ("at risk", ", ".join(mode.at_risk)),
        ):
            console.print(f"{name:<10}  {value}", markup=False)
        members = index.samples(mode.samples[:limit])
        console.print(
            table(
                ("id", "label → prediction", "confidence", "loss"),
                [(s.id, s.pair, s.confidence, s.loss) for s in members],
            )
        )
        if mode.size > limit:
            console.print(f"… {limit} of {mode.size}, most typical first; --limit shows more.")

    emit(mode.to_json(), as_json, show)


def _confusions(mode: "Mode", most: int) -> str:
    return ", ".join(
        f"{c.label_name} → {c.prediction_name} {c.count}" for c in mode.confusions[:most]
    )


def _filters(mode: "Mode", most: int) -> str:
    return ", ".join(f"{f.layer}:{f.filter}" for f in mode.filters[:most])
