"""Commands that list and show repairs, and profile samples under one."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from indexer.progress import track

from .options import DEFAULT_DB, Db, Device, Json, flag
from .output import emit, points, table
from .repairing import UNJUDGED, repair_group


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(repairs)
    repair_group.command()(show)
    repair_group.command()(reprofile)


def show(
    repair: Annotated[str, typer.Argument(help="Id of a repair.", metavar="ID")],
    db: Db = DEFAULT_DB,
    montage: Annotated[
        Path | None, typer.Option(help="Draw fixed and broken images.", metavar="PNG")
    ] = None,
    limit: Annotated[int, typer.Option(help="Samples that the table shows.", min=0)] = 30,
    as_json: Json = False,
) -> None:
    """Show what a repair did to each affected sample."""
    import failsearch

    index = failsearch.open(db)
    report, samples = index.read_repair(repair)
    if montage is not None:
        from failsearch.pictures import repair_montage, save_picture

        save_picture(repair_montage(index.store, samples), montage)
    names = index.manifest.classes
    rows = samples.to_pylist()

    def show(console: Console) -> None:
        console.print(f"repair {repair} of {_made_for(report)}", markup=False)
        if _regrouped(report):
            console.print("modes were found anew or regrouped since: none has these members today")
        console.print(_account_line(report), markup=False)
        console.print(
            table(
                ("id", "label", "before", "after", "change"),
                [
                    (
                        row["id"],
                        names[row["label"]],
                        names[row["before"]],
                        names[row["after"]],
                        row["change"],
                    )
                    for row in rows[:limit]
                ],
            )
        )
        if len(rows) > limit:
            console.print(f"… {limit} of {len(rows)}; --limit shows more.")

    emit({**report, "samples": rows}, as_json, show)


def repairs(db: Db = DEFAULT_DB, as_json: Json = False) -> None:
    """List the repairs of an index."""
    import failsearch

    found = failsearch.open(db).repairs

    def show(console: Console) -> None:
        if not found:
            console.print("No repairs yet: `failsearch repair` makes one.")
            return
        console.print(
            table(
                ("id", "target", "filters", "corrected", "of", "points", "held out", "created"),
                [
                    (
                        one["id"],
                        _made_for(one),
                        len(one["filters"]),
                        one["neighbours_corrected"],
                        one["neighbours"],
                        points(one["accuracy_change"]),
                        _on_held_out(one.get("held_out")),
                        one["created"],
                    )
                    for one in found
                ],
            )
        )

    emit({"repairs": found}, as_json, show)


def reprofile(
    repair: Annotated[str, typer.Argument(help="Id of a repair.", metavar="ID")],
    db: Db = DEFAULT_DB,
    whole_index: Annotated[
        bool, flag("--whole-index", help="All samples, not only the affected ones.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Profile the affected samples under the repaired model, beside the stored profiles."""
    import failsearch

    written = failsearch.open(db).reprofile(
        repair, whole_index=whole_index, device=device, progress=track
    )
    emit({"written": str(written)}, as_json, lambda c: c.print(f"wrote {written}", markup=False))


def _made_for(report: dict[str, Any]) -> str:
    """Say what a repair was made for; a mode by its id only where it still is that mode."""
    if _regrouped(report):
        return f"earlier mode {report['title']}"
    return " ".join(filter(None, (report["kind"], report["mode"], report["title"])))


def _regrouped(report: dict[str, Any]) -> bool:
    return report["kind"] == "mode" and report["mode"] is None


def _on_held_out(account: dict[str, Any] | None) -> str:
    if account is None:
        return "not judged"
    return f"{account['verdict']}, {account['mode_fixed']} of {account['mode_failures']} fixed"


def _account_line(report: dict[str, Any]) -> str:
    """Say in one line what a repair did, and on which samples that was counted."""
    if (judged := report.get("held_out")) is None:
        return (
            f"{report['fixed']} samples fixed, {report['broken']} broken, accuracy "
            f"{points(report['accuracy_change'])} points: {UNJUDGED}"
        )
    change = judged["accuracy_change"]
    return (
        f"held-out: {judged['verdict']}; {judged['mode_fixed']} of {judged['mode_failures']} of "
        f"the mode fixed, {judged['fixed']} in all, {judged['broken']} broken, accuracy "
        f"{points(change['value'])} points ({points(change['low'])} to {points(change['high'])})"
    )
