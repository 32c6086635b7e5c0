"""Choosing between formulas for a layer by running them on what the layer first meets.

Which kernel is fastest depends on the GPU, the shape, the precision and the versions of the
libraries. Measuring takes a few runs of each; no table of rules would stay right for long.
"""

import math
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_ROUNDS = 3


@dataclass(frozen=True)
class Path:
    """A choice: the name of the formula, the reason for it, and the formula, (x, g) -> [B, O]."""

    name: str
    reason: str
    rowsum: Callable[[Tensor, Tensor], Tensor]


def seconds_of(path: Path, x: Tensor, g: Tensor) -> float:
    """Time a formula, which ran before, where its operands are."""
    if not x.is_cuda:
        begin = time.perf_counter()
        path.rowsum(x, g)
        return time.perf_counter() - begin
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.device(x.device):
        start.record()
        for _ in range(_ROUNDS):
            path.rowsum(x, g)
        end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / _ROUNDS


class Race:
    """Remembers which formula was fastest for which layer.

    A formula that fails, for want of memory or of a compiler, or whose sums are not those of the
    last formula, is out. A choice holds for batches of up to twice the size it was made at, so that
    the batches of a run, the last and shorter one included, are computed alike.

    Args:
        clock: measures a formula in seconds.
    """

    def __init__(self, clock: Callable[[Path, Tensor, Tensor], float] = seconds_of) -> None:
        self._clock = clock
        self._winners: dict[Hashable, tuple[int, Path]] = {}

    def winner(
        self,
        key: Hashable,
        paths: Callable[[], Sequence[Path]],
        x: Tensor,
        g: Tensor,
        tolerance: float,
    ) -> Path:
        """Return the formula to take for a layer.

        Where PyTorch is told to be deterministic, the first sound one is taken, not the fastest:
        formulas differ in rounding.

        Args:
            key: tells the layer, its device and its type; the batch size is not part of it.
            paths: lists the formulas, best guess first; the last is the one to trust.
            x: input of the layer, a batch.
            g: gradient of its output.
            tolerance: relative difference, as a Frobenius norm, from the last formula's sums.

        Raises:
            Exception: what the last formula raised, if that failed.
        """
        size, winner = self._winners.get(key, (-1, None))
        if winner is None or len(x) > 2 * size:
            winner = self._run(paths(), x, g, tolerance)
            self._winners[key] = len(x), winner
        return winner

    def _run(self, paths: Sequence[Path], x: Tensor, g: Tensor, tolerance: float) -> Path:
        trusted = paths[-1]
        if len(paths) == 1 or len(x) == 0:
            return trusted
        expected = trusted.rowsum(x, g)
        notes, sound = [], []
        for path in paths[:-1]:
            fault = _fault(path, x, g, expected, tolerance)
            if fault is None:
                sound.append(path)
            else:
                notes.append(f"{path.name} is out: {fault}")
        sound.append(trusted)
        if torch.are_deterministic_algorithms_enabled() or len(sound) == 1:
            return _with_notes(sound[0], notes)
        seconds = {path: self._clock(path, x, g) for path in sound}
        ranking = sorted(sound, key=lambda path: seconds[path])
        best, second = (f"{1000 * seconds[path]:.3g} ms" for path in ranking[:2])
        won = f"fastest of {len(ranking)} with {best}, then {ranking[1].name} with {second}"
        return _with_notes(ranking[0], [won, *notes])


def _fault(path: Path, x: Tensor, g: Tensor, expected: Tensor, tolerance: float) -> str | None:
    """Return why a formula must not be taken, None where it may."""
    try:
        rows = path.rowsum(x, g)
    except Exception as error:  # a kernel's compiler fails in ways of its own
        first = str(error).strip().split("\n")[0]
        return f"{type(error).__name__}: {first}"
    difference, size = float((rows - expected).norm()), float(expected.norm())
    if math.isfinite(size) and not difference <= tolerance * size:
        return f"its sums differ by {difference / size:.0e}" if size else "its sums are not zero"
    return None


def _with_notes(path: Path, notes: Sequence[str]) -> Path:
    return replace(path, reason="; ".join([path.reason, *notes]))
