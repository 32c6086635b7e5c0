"""A `Progress` that remembers what it was told."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Step:
    """A piece of work: what it is, how many items it has, and how many were reported as done."""

    description: str
    total: int
    done: int

    def advance(self, count: int) -> None:
        """Count items as done."""
        self.done += count

    def note(self, text: str) -> None:
        """Refuse a line: the work under test has none to show."""
        raise AssertionError(text)


@dataclass
class Recorder:
    """Give it as `progress`; steps that are open at the same time are refused, as bars are.

    Attributes:
        steps: in the order in which they began.
    """

    steps: list[Step] = field(default_factory=list)
    _open: bool = False

    @contextmanager
    def __call__(self, description: str, total: int, done: int = 0) -> Iterator[Step]:
        """Begin a step."""
        assert not self._open, f"{description!r} within another step"
        self.steps.append(Step(description, total, done))
        self._open = True
        yield self.steps[-1]
        self._open = False

    @property
    def told(self) -> list[tuple[str, int]]:
        """Description and total of each step, after a check that each was reported to its end."""
        assert [step.done for step in self.steps] == [step.total for step in self.steps]
        return [(step.description, step.total) for step in self.steps]
