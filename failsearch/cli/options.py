"""Options that several commands share, declared once."""

from pathlib import Path
from typing import Annotated, Any

import typer


def flag(name: str, **settings: Any) -> Any:
    """Return an option that takes no value; without this, typer's help asks for a <bool>."""
    return typer.Option(name, metavar="", **settings)


Db = Annotated[
    Path, typer.Option("--db", envvar="FAILSEARCH_DB", help="Database folder.", metavar="DIR")
]
DEFAULT_DB = Path("failures.lancedb")

Json = Annotated[bool, flag("--json", help="Print one JSON document on stdout.")]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        help='Condition such as label=cat or "confidence>0.9"; repeat to combine.',
        metavar="EXPR",
    ),
]
Device = Annotated[
    str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1, or auto.", metavar="DEVICE")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=2**32 - 1)]
