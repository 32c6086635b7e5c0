"""Commands that carry a repair to other copies of the weights and measure it again."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from indexer.progress import track
from search.destination import check_file

from .options import DEFAULT_DB, Db, Device, Json
from .output import emit, table
from .repairing import UNJUDGED

if TYPE_CHECKING:
    from finetune.patch import Patch as PatchFile

patch_group = typer.Typer(help="Carry a repair to other copies of the weights.")

Patch = Annotated[Path, typer.Argument(help="Patch file of a repair.", metavar="PATCH")]
Weights = Annotated[
    Path, typer.Argument(help="timm directory or safetensors checkpoint.", metavar="WEIGHTS")
]
Out = Annotated[
    Path | None, typer.Option(help="Write here instead of changing WEIGHTS.", metavar="FILE")
]


@patch_group.command()
def apply(patch: Patch, weights: Weights, out: Out = None, as_json: Json = False) -> None:
    """Put a repair into the weights it was made for, in place or, with --out, into a copy."""
    from finetune.patch import apply_patch

    _rewrite(apply_patch, patch, weights, out, as_json)


@patch_group.command()
def revert(patch: Patch, weights: Weights, out: Out = None, as_json: Json = False) -> None:
    """Take a repair back, bit for bit."""
    from finetune.patch import revert_patch

    _rewrite(revert_patch, patch, weights, out, as_json)


def _rewrite(
    change: Callable[["PatchFile", Path, Path | None], Path],
    patch: Path,
    weights: Path,
    out: Path | None,
    as_json: bool,
) -> None:
    from finetune.patch import read_patch

    if out is not None:
        check_file(out, ".safetensors")
    written = change(read_patch(patch), weights, out)
    emit({"written": str(written)}, as_json, lambda c: c.print(f"wrote {written}", markup=False))


@patch_group.command()
def verify(
    patch: Patch,
    weights: Annotated[
        Path | None,
        typer.Argument(help="Weights to tell whether they carry the patch.", metavar="WEIGHTS"),
    ] = None,
    db: Db = DEFAULT_DB,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure the figures of a patch again on its index; exit code 1 where they differ."""
    import failsearch

    found = failsearch.open(db).verify_patch(patch, weights, device=device, progress=track)

    def show(console: Console) -> None:
        rows = [
            (name, value, found.measured.get(name))
            for name, value in found.promised.items()
            if isinstance(value, int | float) or name in found.differing
        ]
        console.print(table((f"on {found.judged_on}", "promised", "measured"), rows))
        if found.judged_on == "index":
            console.print("this repair has no split: " + UNJUDGED, markup=False)
        console.print("as promised" if found.matches else "not as promised")
        if found.weights is not None:
            carries = "carries" if found.weights == "patched" else "does not carry"
            console.print(f"{weights} {carries} the patch", markup=False)

    emit(found.to_json(), as_json, show)
    if not found.matches:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(patch_group, name="patch")
