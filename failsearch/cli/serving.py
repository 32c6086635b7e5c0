"""Commands for looking: the local web app and the one-file report."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from indexer.errors import SettingError
from search.destination import check_file

from .options import DEFAULT_DB, Db, Json, flag
from .output import emit


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(serve)
    app.command()(report)


def serve(
    db: Db = DEFAULT_DB,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8765,
    token: Annotated[
        bool, flag("--token", help="Ask for a secret; needed beyond loopback.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Answer under this name too, as behind a tunnel or a proxy; repeatable.",
            metavar="NAME",
        ),
    ] = None,
) -> None:
    """Open the index as a local web app."""
    with _web_extra():
        from failsearch.web.server import serve as run
    run(db, host=host, port=port, token=token, allow_hosts=allow_host or ())


def report(
    output: Annotated[Path, typer.Argument(help="HTML file to write.", metavar="OUT.html")],
    db: Db = DEFAULT_DB,
    max_mb: Annotated[float, typer.Option(help="Most megabytes of the file.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Write overview, modes, findings and repairs into one file that needs no server."""
    import failsearch

    with _web_extra():
        from failsearch.report import ReportSettings, write_report
    check_file(output)
    size = write_report(failsearch.open(db), output, ReportSettings(max_mb=max_mb))
    emit(
        {"report": str(output), "bytes": size},
        as_json,
        lambda console: console.print(f"wrote {output}, {_size(size)}", markup=False),
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


@contextmanager
def _web_extra() -> Iterator[None]:
    """Say which extra is missing where an import fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise SettingError(f"this needs {error.name}: pip install 'failsearch[web]'") from error
