"""Progress on stderr: a bar in a terminal, an occasional line in a log, never on stdout."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

LOG_INTERVAL = 15.0
"""Seconds between lines where stderr is no terminal."""


class Tracker(Protocol):
    """What a long piece of work reports to."""

    def advance(self, count: int) -> None:
        """Count items as done."""
        ...

    def note(self, text: str) -> None:
        """Show a line that stays."""
        ...


Progress = Callable[[str, int, int], AbstractContextManager[Tracker]]
"""Called with a description, the total, and how much of it was done before."""


@contextmanager
def track(description: str, total: int, done: int = 0) -> Iterator[Tracker]:
    """Show progress on stderr for the length of the block, with the rate and the time left."""
    if sys.stderr.isatty():
        with _Bar(description, total, done) as bar:
            yield bar
    else:
        yield _Log(description, total, done)


@contextmanager
def silent(description: str, total: int, done: int = 0) -> Iterator[Tracker]:
    """Show nothing."""
    yield _Silence()


class _Bar:
    def __init__(self, description: str, total: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            # The stream as it is now: work that silences a library must not silence the bar.
            console=Console(file=sys.stderr),
        )
        self._rate = _Rate()
        self._task = self._bar.add_task(description, total=total, completed=done, rate="")

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, count: int) -> None:
        self._bar.update(self._task, advance=count, rate=f"{self._rate(count):.1f}/s")

    def note(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)


class _Log:
    def __init__(self, description: str, total: int, done: int) -> None:
        self._description, self._total, self._done = description, total, done
        self._rate = _Rate()
        self._shown = time.monotonic()
        self._stream = sys.stderr

    def advance(self, count: int) -> None:
        self._done += count
        rate = self._rate(count)
        if time.monotonic() - self._shown >= LOG_INTERVAL:
            self._shown = time.monotonic()
            left = (self._total - self._done) / max(rate, 1e-9)
            self.note(
                f"{self._description}: {self._done}/{self._total}, {rate:.1f}/s, {left:.0f} s left"
            )

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class _Silence:
    def advance(self, count: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Rate:
    """Items per second since the beginning."""

    def __init__(self) -> None:
        self._started, self._count = time.monotonic(), 0

    def __call__(self, count: int) -> float:
        self._count += count
        return self._count / max(time.monotonic() - self._started, 1e-9)
