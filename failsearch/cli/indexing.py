"""Commands that make and extend an index."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from indexer.errors import SettingError
from search.words import percent

from .options import DEFAULT_DB, Db, Device, Json, flag
from .output import emit

if TYPE_CHECKING:
    from indexer.pipeline import IndexReport

Data = Annotated[
    str,
    typer.Argument(
        help="Folder of class folders, CSV or parquet manifest, parquet with embedded images, "
        "or a timm data-set name such as torch/cifar10.",
        metavar="DATA",
        show_default=False,
    ),
]

BatchSize = Annotated[
    int | None, typer.Option(help="Images a batch; chosen from free memory by default.")
]
Workers = Annotated[int | None, typer.Option(help="Threads that read and decode.")]
ClassMap = Annotated[
    list[str] | None,
    typer.Option(
        help="Pair data=model, or a JSON or CSV file of pairs, for class names that do not match "
        "by themselves; repeat for more.",
        metavar="MAP",
    ),
]
LabelColumn = Annotated[str, typer.Option(help="Column of the label.")]
PathColumn = Annotated[str, typer.Option(help="Column of the image path.")]
ImageColumn = Annotated[str | None, typer.Option(help="Column of embedded images.")]
IdColumn = Annotated[str | None, typer.Option(help="Column of the sample id.")]
IdPrefix = Annotated[
    str,
    typer.Option(
        help="Put before every id, to tell apart images of several sets.",
        metavar="TEXT",
        show_default=False,
    ),
]
Split = Annotated[str | None, typer.Option(help="Split of a named data set.")]
Root = Annotated[Path | None, typer.Option(help="Folder of a named data set.")]
Download = Annotated[bool, flag("--download", help="Let a named data set be fetched.")]
MaxPixels = Annotated[int, typer.Option(help="Reject images with more pixels.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(index)
    app.command()(add)


def index(
    data: Data,
    model: Annotated[
        str, typer.Option(help="timm name, hf-hub:…, local-dir:… or package.module:factory.")
    ],
    db: Db = DEFAULT_DB,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights: safetensors, or a pickle read weights-only.")
    ] = None,
    units: Annotated[
        str, typer.Option(help="What a profile describes: conv, linear or all.")
    ] = "conv",
    aggregation: Annotated[str, typer.Option(help="One value per filter, or per layer.")] = (
        "filter"
    ),
    signed: Annotated[
        bool, flag("--signed", help="Keep the sign of z, as the published code does.")
    ] = False,
    precision: Annotated[str, typer.Option(help="fp32, tf32, bf16, amp or fp64.")] = "fp32",
    storage: Annotated[str, typer.Option(help="Type of stored profiles: float32 or float16.")] = (
        "float32"
    ),
    batch_size: BatchSize = None,
    workers: Workers = None,
    device: Device = "auto",
    class_map: ClassMap = None,
    label_column: LabelColumn = "label",
    path_column: PathColumn = "path",
    image_column: ImageColumn = None,
    id_column: IdColumn = None,
    id_prefix: IdPrefix = "",
    split: Split = None,
    root: Root = None,
    download: Download = False,
    input_size: Annotated[
        int | None, typer.Option(help="Override the model's input size, in pixels.")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Override the mean, as r,g,b.")] = None,
    std: Annotated[str | None, typer.Option(help="Override the deviation, as r,g,b.")] = None,
    interpolation: Annotated[str | None, typer.Option(help="Override the interpolation.")] = None,
    crop_pct: Annotated[float | None, typer.Option(help="Override the crop share.")] = None,
    crop_mode: Annotated[
        str | None, typer.Option(help="Override the crop mode: center, squash or border.")
    ] = None,
    max_pixels: MaxPixels = 64_000_000,
    ann: Annotated[bool, flag("--ann", help="Build the approximate search index as well.")] = False,
    as_json: Json = False,
) -> None:
    """Index a validation set: one standardized saliency profile per image, in LanceDB.

    An interrupted run goes on with the same command.
    """
    from failsearch.indexing import index
    from indexer.classes import read_class_map
    from indexer.job import IndexSettings
    from indexer.transforms import TransformOverrides

    made, report = index(
        data,
        model,
        db,
        checkpoint=checkpoint,
        device=device,
        data_options={
            "label_column": label_column,
            "path_column": path_column,
            "image_column": image_column,
            "id_column": id_column,
            "id_prefix": id_prefix,
            "split": split,
            "root": root,
            "download": download,
        },
        overrides=TransformOverrides(
            input_size=None if input_size is None else (input_size, input_size),
            mean=_numbers(mean),
            std=_numbers(std),
            interpolation=interpolation,
            crop_pct=crop_pct,
            crop_mode=crop_mode,
        ),
        settings=IndexSettings(
            units=units,
            aggregation=aggregation,
            signed=signed,
            precision=precision,
            profile_dtype=storage,
            batch_size=batch_size,
            workers=workers,
            class_map=read_class_map(class_map or ()),
            max_pixels=max_pixels,
        ),
    )
    if ann:
        made.build_ann()
    _show(report, as_json)


def add(
    data: Data,
    db: Db = DEFAULT_DB,
    batch_size: BatchSize = None,
    workers: Workers = None,
    device: Device = "auto",
    class_map: ClassMap = None,
    label_column: LabelColumn = "label",
    path_column: PathColumn = "path",
    image_column: ImageColumn = None,
    id_column: IdColumn = None,
    id_prefix: IdPrefix = "",
    split: Split = None,
    root: Root = None,
    download: Download = False,
    max_pixels: MaxPixels = 64_000_000,
    as_json: Json = False,
) -> None:
    """Add images to an index, standardized with the statistics that it already has."""
    import failsearch
    from failsearch.indexing import add
    from indexer.classes import read_class_map
    from indexer.job import IndexSettings

    report = add(
        failsearch.open(db),
        data,
        device=device,
        data_options={
            "label_column": label_column,
            "path_column": path_column,
            "image_column": image_column,
            "id_column": id_column,
            "id_prefix": id_prefix,
            "split": split,
            "root": root,
            "download": download,
        },
        settings=IndexSettings(
            batch_size=batch_size,
            workers=workers,
            class_map=read_class_map(class_map or ()),
            max_pixels=max_pixels,
        ),
    )
    _show(report, as_json)


def _show(report: "IndexReport", as_json: bool) -> None:
    def show(console: Console) -> None:
        rate = f" at {report.profiled / report.seconds:.1f} images/s" if report.profiled else ""
        console.print(
            f"{report.path}: {report.status}; {report.samples} samples, {report.units} units, "
            f"accuracy {percent(report.accuracy, 2)}; {report.rejected} rows rejected; "
            f"{report.profiled} profiled in {report.seconds:.1f} s{rate}.",
            markup=False,
        )
        if report.left_out:
            console.print(
                f"Columns not kept, since no filter could use them: {', '.join(report.left_out)}.",
                markup=False,
            )
        if report.engine == "reference":
            console.print("The slow reference engine was used; see the note above.")
        if report.duplicates:
            console.print(
                f"Ids that the index holds already: {report.duplicates}; --id-prefix tells images "
                "of several sets apart."
            )
        if report.rejected:
            console.print("`failsearch info --rejects` names the rejected rows and why.")

    document: dict[str, Any] = {**vars(report), "path": str(report.path)}
    emit(document, as_json, show)


def _numbers(text: str | None) -> tuple[float, ...] | None:
    """Parse "0.5,0.5,0.5"; raises SettingError."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingError(f"{text!r} is not a list of numbers: write 0.5,0.5,0.5") from error
