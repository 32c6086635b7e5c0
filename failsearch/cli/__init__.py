"""The command line: each command parses, makes one library call and prints the result."""

import errno
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from indexer.errors import FailsearchError, FailsearchWarning, SettingError
from indexer.trust import TRUST_MODEL, trust_all

from . import (
    auditing,
    describing,
    explaining,
    indexing,
    maintaining,
    modes,
    patching,
    repairing,
    repairs,
    searching,
    serving,
)
from .options import flag

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal."""

app = typer.Typer(
    name="failsearch",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("failsearch"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        flag(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    trust_model: Annotated[
        bool,
        flag(
            "--trust-model",
            help="Import the module that an index names for its model, whoever made the index. "
            f"{TRUST_MODEL}=1 does the same.",
        ),
    ] = False,
) -> None:
    """Find, explain and repair the failures of an image classifier."""
    if trust_model:
        trust_all()


for group in (
    indexing,
    describing,
    searching,
    modes,
    explaining,
    auditing,
    repairing,
    repairs,
    patching,
    serving,
    maintaining,
):
    group.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a check found something, 2 a user's mistake."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _in_one_line(warnings.showwarning)
            sys.exit(_run(words))
    except FailsearchError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        goes_on = words[:1] in (["index"], ["add"])
        hint = ": the same command goes on where this one stopped" if goes_on else ""
        print(f"failsearch: interrupted{hint}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; there is nobody left to tell.
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror}{where}: free some space or choose a writable place")


def _run(words: list[str]) -> int:
    """Run a command and return its exit code; wrong usage becomes one line, as all mistakes do."""
    try:
        code = app(args=words or ["--help"], prog_name="failsearch", standalone_mode=False) or 0
    except typer.TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        context = getattr(error, "ctx", None)
        command = "failsearch" if context is None else context.command_path
        hint = _hint(words, getattr(error, "option_name", None))
        raise SettingError(f"{message.removesuffix('.')}{hint} (see `{command} --help`)") from error
    if code == INTERRUPTED:
        # Typer swallows Ctrl-C and returns its code.
        raise KeyboardInterrupt
    return code


def _hint(words: list[str], unknown: str | None) -> str:
    """Return where an id goes that was taken for an option; empty where none looks like one."""
    for word in words:
        name = word.partition("=")[0]
        if unknown and word.startswith(unknown) and ("." in name or "/" in name):
            return (
                f"; what begins with a dash and is no option goes behind --: -- {shlex.quote(word)}"
            )
    return ""


def _in_one_line(show: Callable[..., None]) -> Callable[..., None]:
    """Return a `warnings.showwarning` that tells what a user should know without a line of code."""

    def warn(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, FailsearchWarning):
            print(f"failsearch: warning: {' '.join(str(message).split())}", file=sys.stderr)
        else:
            show(message, category, *where)

    return warn


def _fail(message: str) -> None:
    print(f"failsearch: {message}", file=sys.stderr)
    sys.exit(2)
