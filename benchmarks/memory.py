"""The resident memory of this process, now and at its peak (Linux)."""

import ctypes
from pathlib import Path


def start_peak() -> None:
    """Start the high-water mark anew: `ru_maxrss` would hold that of the parent process too.

    Memory that is free goes back to the system first, or what comes would fill it unnoticed.
    """
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def resident() -> int:
    """Return the bytes that are resident now."""
    return _status("VmRSS")


def peak() -> int:
    """Return the most bytes that were resident since `start_peak`."""
    return _status("VmHWM")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}: peak memory needs Linux")
