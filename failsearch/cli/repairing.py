"""Commands that repair a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from indexer.durability import disk_errors, replace_file
from indexer.errors import SettingError
from indexer.progress import track
from search.destination import check_file, check_folder
from search.words import percent

from .options import DEFAULT_DB, Db, Device, Json, Seed
from .output import emit, points, table

if TYPE_CHECKING:
    from finetune.mode_repair import ModeRepairReport
    from finetune.report import RepairReport

Out = Annotated[Path | None, typer.Option(help="Folder for the repaired model.", metavar="DIR")]

UNJUDGED = (
    "counted over the whole index, the samples it learned from included; "
    "`failsearch repair search` judges on samples that were never used"
)

repair_group = typer.Typer(
    help="Fine-tune the filters behind a failure or mode.", invoke_without_command=True
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(repair_group, name="repair")


@repair_group.callback()
def repair(
    context: typer.Context,
    mode: Annotated[str | None, typer.Option(help="Failure mode to repair.", metavar="ID")] = None,
    sample: Annotated[str | None, typer.Option(help="Failure to repair.", metavar="ID")] = None,
    db: Db = DEFAULT_DB,
    fraction: Annotated[float, typer.Option(help="Share of the filters to update.")] = 0.004,
    lr: Annotated[float, typer.Option(help="Step size.")] = 1e-3,
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 1,
    neighbours: Annotated[int, typer.Option(help="Size of the group re-scored by --sample.")] = 10,
    out: Out = None,
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fine-tune the most salient filters of a failure or mode, beside controls.

    The paper's repair: one step on the top 0.4 % of the filters. The indexed model stays as it
    is; the repaired one is written as a timm directory and as a small patch.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    if (mode is None) == (sample is None):
        raise SettingError("say what to repair: either --mode ID or --sample ID")
    if out is not None:
        check_folder(out)
    import failsearch

    report = failsearch.open(db).repair(
        mode=mode,
        sample=sample,
        output=out,
        device=device,
        progress=track,
        fraction=fraction,
        lr=lr,
        steps=steps,
        neighbours=neighbours,
        seed=seed,
    )
    emit(report.to_json(), as_json, lambda console: _show_repair(report, console))


def _refuse_options(context: typer.Context) -> None:
    """Refuse what was given before a subcommand, which would not see it: a database, for one."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--json" if name == "as_json" else f"--{name}"
            raise SettingError(
                f"{option} stands before `{context.invoked_subcommand}`: options of a command "
                "come after its name"
            )


def _show_repair(report: "RepairReport", console: Console) -> None:
    console.print(
        f"repair {report.id} of {report.kind} {report.target}: {len(report.filters)} filters",
        markup=False,
    )
    arms = {"salient": report.outcome, **report.controls}
    console.print(
        table(
            ("filters", "corrected", "of", "fixed", "broken", "accuracy", "change (points)"),
            [
                (
                    name,
                    one.neighbours_corrected,
                    report.neighbours,
                    one.fixed,
                    one.broken,
                    percent(one.accuracy_after, 2),
                    points(one.accuracy_change),
                )
                for name, one in arms.items()
            ],
        )
    )
    console.print(UNJUDGED, markup=False)
    console.print(f"model {report.model}\npatch {report.patch}", markup=False)


@repair_group.command()
def search(
    mode: Annotated[str, typer.Argument(help="Failure mode to repair.", metavar="MODE")],
    db: Db = DEFAULT_DB,
    max_drop: Annotated[
        float,
        typer.Option(help="Most accuracy to lose on all guard samples, in points."),
    ] = 0.1,
    selection: Annotated[
        list[str] | None,
        typer.Option(
            help="How filters are chosen: gradient (default), salient, contrastive, random, "
            "least, last or all; repeat to try several."
        ),
    ] = None,
    budget: Annotated[int, typer.Option(help="Most candidates to train for each selection.")] = 3,
    steps: Annotated[int, typer.Option(help="Steps a candidate.")] = 50,
    out: Out = None,
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Search for a repair worth shipping, judged on samples that were never used."""
    import failsearch

    if out is not None:
        check_folder(out)
    chosen: dict[str, Any] = {"selections": tuple(selection)} if selection else {}
    report = failsearch.open(db).repair_mode(
        mode,
        output=out,
        device=device,
        progress=track,
        max_drop=max_drop / 100,
        budget=budget,
        steps=steps,
        seed=seed,
        **chosen,
    )
    emit(report.to_json(), as_json, lambda console: _show_search(report, console))


def _show_search(report: "ModeRepairReport", console: Console) -> None:
    if not report.found:
        settings = report.settings
        more = (
            f", --budget {len(settings.retentions)} tries stronger retention"
            if settings.budget < len(settings.retentions)
            else ""
        )
        console.print(
            f"None of {report.candidates} candidates fixed failures of mode {report.target} "
            f"without losing more than {100 * settings.max_drop:g} points on guard samples; "
            f"--max-drop allows more{more}.",
            markup=False,
        )
        return
    console.print(
        f"repair {report.id} of mode {report.target}: {report.held_out.verdict}", markup=False
    )
    arms = {"repair": report.held_out, **report.controls}
    console.print(
        table(
            (
                *("held-out", "mode fixed", "of", "all fixed", "broken", "points", "95 %"),
                *("outside mode", "reverse"),
            ),
            [
                (
                    name,
                    one.mode_fixed,
                    one.mode_failures,
                    one.fixed,
                    one.broken,
                    points(one.accuracy_change.value),
                    f"{points(one.accuracy_change.low)} to {points(one.accuracy_change.high)}",
                    points(one.elsewhere_change.value),
                    f"{one.reverse_before} → {one.reverse_after}",
                )
                for name, one in arms.items()
            ],
        )
    )
    console.print(_foretold(report), markup=False)
    console.print(f"model {report.model}\npatch {report.patch}", markup=False)


def _foretold(report: "ModeRepairReport") -> str:
    guard = (report.winner or {})["guard"]
    return (
        f"guard samples, which chose it, foretold {points(-guard['drop'])} points, and "
        f"{points(-guard['elsewhere'])} outside the mode: they flatter what they choose, "
        "held-out samples do not"
    )


@repair_group.command("table")
def tables(
    db: Db = DEFAULT_DB,
    samples: Annotated[int, typer.Option(help="Samples shown, each of another pair.", min=0)] = 3,
    many: Annotated[int, typer.Option(help="Samples that means are taken over.", min=1)] = 50,
    seeds: Annotated[int, typer.Option(help="Draws of random filters.", min=1)] = 10,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the tables as Markdown.", metavar="FILE")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure the paper's tables 1 and 2 and the switch-off check on this index."""
    import failsearch

    if markdown is not None:
        check_file(markdown)
    found = failsearch.open(db).repair_tables(
        device=device, progress=track, samples=samples, many=many, seeds=seeds
    )
    if markdown is not None:
        with disk_errors(markdown), replace_file(markdown) as file:
            file.write(found.to_markdown().encode())
    emit(found.to_json(), as_json, lambda console: console.print(found.to_markdown(), markup=False))
