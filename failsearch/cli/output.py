"""What commands print: one JSON document, or a table for people; notes go to stderr."""

import io
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 10_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control codes, breaks of lines and paragraphs, and what turns the direction of a line."""


def emit(document: Any, as_json: bool, show: Callable[[Console], None]) -> None:
    """Print `document` as the only thing on stdout, or call `show` with a console on stdout."""
    if as_json:
        print(json.dumps(_plain(document), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        # A pipe has no width: there, a row stays on one line, and is not filled up with blanks.
        piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
        if piped:
            text = io.StringIO()
            show(_Console(file=text, highlight=False, soft_wrap=True, width=PIPED_WIDTH))
            print(*(line.rstrip() for line in text.getvalue().splitlines()), sep="\n")
        else:
            show(_Console(highlight=False, soft_wrap=True))


class _Console(Console):
    """A console whose lines leave the terminal as it is, whatever the ids and names in them."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*map(_harmless, objects), **options)


def _harmless(printed: Any) -> Any:
    if not isinstance(printed, str):
        return printed
    return "\n".join(map(visible, printed.split("\n")))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return a plain table; numbers stand right-aligned, text is never read as markup.

    Columns without names get no header. Where the terminal is too narrow, columns of several words
    wrap and the others stay whole.
    """
    rows = [[visible(_cell(value)) for value in row] for row in rows]
    built = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for name, *cells in zip(columns, *rows, strict=True):
        built.add_column(
            name,
            justify="right" if all(map(_is_number, cells)) else "left",
            no_wrap=not any(" " in cell for cell in cells),
            overflow="fold",
        )
    for row in rows:
        built.add_row(*(_escape(cell) for cell in row))
    return built


def visible(text: str) -> str:
    """Return a text with its control characters as Python writes them, not as they act."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def points(change: float) -> str:
    """Write a change of a share in signed percentage points."""
    return f"{100 * change:+.2f}"


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _is_number(cell: str) -> bool:
    try:
        float(cell.removesuffix(" %"))
    except ValueError:
        return False
    return True


def _escape(cell: str) -> str:
    from rich.markup import escape

    return escape(cell)


def _plain(value: Any) -> Any:
    """Replace what JSON cannot hold: numpy scalars become Python's, nan and inf become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
