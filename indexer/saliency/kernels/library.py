"""The compiled library of csrc/, if it was built, and the instruction sets it can use here."""

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch  # noqa: F401  (its OpenMP runtime must be there first, so that both share one)

LIBRARY = Path(__file__).with_name("_rowsum")
INTERFACE = 4
"""Counts changes of csrc/problem.h: a library left over from another version is not taken."""
OUT_OF_MEMORY = 1
"""Status that the library's functions return; 0 is success."""


@cache
def load() -> ctypes.CDLL | None:
    """Return the library, or None where it is missing, stale or made for another machine."""
    for suffix in EXTENSION_SUFFIXES:
        path = LIBRARY.with_name(LIBRARY.name + suffix)
        if not path.exists():
            continue
        try:
            library = ctypes.CDLL(str(path))
            fits = library.rowsum_interface() == INTERFACE
        except (OSError, AttributeError):  # built for another machine, or by an early version
            return None
        if not fits:
            return None
        library.rowsum_path_name.restype = ctypes.c_char_p
        return library
    return None


@cache
def instruction_sets() -> tuple[str, ...]:
    """Return the paths that this processor runs, fastest first; empty without the library."""
    library = load()
    if library is None:
        return ()
    paths = range(library.rowsum_path_count())
    return tuple(_path_name(library, i) for i in paths if library.rowsum_path_runs(i))


def _path_name(library: ctypes.CDLL, path: int) -> str:
    return library.rowsum_path_name(path).decode()


@cache
def path_index(library: ctypes.CDLL, path: str | None) -> int:
    """Return the number of a path, the fastest if None; ValueError if it does not run here."""
    path = path or instruction_sets()[0]
    if path not in instruction_sets():
        raise ValueError(f"no path {path!r} here: {', '.join(instruction_sets())}")
    names = [_path_name(library, i) for i in range(library.rowsum_path_count())]
    return names.index(path)


def check_status(status: int) -> None:
    """Raise MemoryError where the library could not get its scratch memory."""
    if status == OUT_OF_MEMORY:
        raise MemoryError("no memory for the scratch of the CPU kernels")
