"""Commands that show why: salient filters, pixels, what-if and inversion."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from indexer.progress import track
from search.destination import check_folder

from .options import DEFAULT_DB, Db, Device, Json, Seed
from .output import emit, table

Out = Annotated[Path, typer.Option(help="Folder for the pictures and arrays.", metavar="DIR")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(explain)
    app.command()(invert)


def explain(
    sample: Annotated[str | None, typer.Argument(help="Id of a sample.", metavar="ID")] = None,
    db: Db = DEFAULT_DB,
    image: Annotated[
        Path | None, typer.Option(help="An image that is not in the index.", metavar="FILE")
    ] = None,
    label: Annotated[str | None, typer.Option(help="True class of --image.")] = None,
    top: Annotated[
        int | None, typer.Option(help="Salient filters to show and boost; 10 by default.")
    ] = None,
    boost: Annotated[float, typer.Option(help="Factor on the boosted filters.")] = 100.0,
    filters: Annotated[
        str | None,
        typer.Option(help="Boost these filters instead, as layer:index,…", metavar="LIST"),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            help="What-if: fill this box, in pixels of the model's input; repeat.",
            metavar="x0,y0,x1,y1",
        ),
    ] = None,
    mask_salient: Annotated[
        str | None,
        typer.Option(help="What-if: fill the most salient share of pixels.", metavar="5%"),
    ] = None,
    fill: Annotated[str, typer.Option(help="Fill: mean, blur, noise or inpaint.")] = "mean",
    paste_onto: Annotated[
        str | None,
        typer.Option(help="Paste the salient region onto images of a class.", metavar="CLASS"),
    ] = None,
    out: Out = Path("explanation"),
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Show which filters and which pixels are behind a failure, and what happens without them."""
    import failsearch
    from failsearch.explain import ExplainSettings, parse_box, parse_share

    check_folder(out)
    settings = ExplainSettings(
        top=top,
        boost=boost,
        filters=tuple(filters.split(",")) if filters else (),
        masks=tuple(parse_box(box) for box in mask or ()),
        mask_salient=parse_share(mask_salient) if mask_salient else None,
        fill=fill,
        paste_onto=paste_onto,
        seed=seed,
    )
    explanation = failsearch.open(db).explain(
        sample, image=image, label=label, settings=settings, device=device, progress=track
    )
    files = explanation.save(out)

    def show(console: Console) -> None:
        console.print(
            f"{explanation.id}: {explanation.label_name} → {explanation.prediction_name}",
            markup=False,
        )
        heads = ("filter", "standardized", "raw", "percentile", "modes")
        rows = [
            (
                f"{f.layer}:{f.filter}",
                f.standardized,
                f"{f.raw:.3g}",
                f"{f.percentile:.1f}",
                ", ".join(f.modes),
            )
            for f in explanation.filters
        ]
        shown = len(heads) if any(f.modes for f in explanation.filters) else len(heads) - 1
        console.print(table(heads[:shown], [row[:shown] for row in rows]))
        for line in explanation.summary():
            console.print(line, markup=False)
        console.print("wrote " + ", ".join(str(file) for file in files), markup=False)

    emit({**explanation.to_json(), "files": files}, as_json, show)


def invert(
    sample: Annotated[str, typer.Argument(help="Id of a sample.", metavar="ID")],
    db: Db = DEFAULT_DB,
    start: Annotated[
        str, typer.Option(help="Begin at: noise, the id of a sample, or an image file.")
    ] = "noise",
    steps: Annotated[int, typer.Option(help="Most steps.")] = 400,
    lr: Annotated[float, typer.Option(help="Step size.")] = 0.05,
    out: Out = Path("inversion"),
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Recover an image from a stored profile, to see what the profile knows."""
    import failsearch
    from failsearch.explain import InvertSettings

    check_folder(out)
    inversion = failsearch.open(db).invert(
        sample,
        start=start,
        settings=InvertSettings(steps=steps, lr=lr, seed=seed),
        device=device,
        progress=track,
    )
    files = inversion.save(out)

    def show(console: Console) -> None:
        console.print(
            f"{inversion.id}: cosine distance {inversion.distance:.4f} after {inversion.steps} "
            f"steps, PSNR {inversion.psnr:.1f} dB, SSIM {inversion.ssim:.3f}",
            markup=False,
        )
        console.print("wrote " + ", ".join(str(file) for file in files), markup=False)

    emit({**inversion.to_json(), "files": files}, as_json, show)
