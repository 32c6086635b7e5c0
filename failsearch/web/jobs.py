"""Long work behind a page: one job at a time, with progress, and it can be stopped."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from indexer.errors import FailsearchError, LockedError
from indexer.progress import Progress, Tracker

Work = Callable[[Progress], str]
"""What a job runs; returns the address of the page that shows the result."""


class _StoppedError(Exception):
    """Raised inside the work, at its next step, after somebody asked to stop it."""


@dataclass
class BackgroundJob:
    """One piece of work.

    Attributes:
        title: what it is, for people.
        state: how it stands.
        step: what it is doing now.
        done: items of the step that are finished.
        total: items of the step; 0 where that is not known.
        address: page with the result, once there is one.
        error: why it failed.
    """

    title: str
    state: Literal["running", "stopping", "done", "failed", "stopped"] = "running"
    step: str = "Starting"
    done: int = 0
    total: int = 0
    address: str | None = None
    error: str | None = None

    @property
    def active(self) -> bool:
        """Whether it still runs."""
        return self.state in ("running", "stopping")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**vars(self), "active": self.active}


class Jobs:
    """The one job of a server: the index has one writer, and the machine one model."""

    def __init__(self) -> None:
        self.current: BackgroundJob | None = None
        self._lock = threading.Lock()

    def start(self, title: str, work: Work) -> BackgroundJob:
        """Run work on a thread of its own.

        Raises:
            LockedError: another job is running.
        """
        with self._lock:
            if self.current is not None and self.current.active:
                raise LockedError(f"{self.current.title} is still running: wait for it or stop it")
            job = self.current = BackgroundJob(title)
        # A daemon, so that Ctrl-C ends the server; an interrupted writer leaves no record.
        threading.Thread(target=self._run, args=(job, work), daemon=True).start()
        return job

    def stop(self) -> BackgroundJob | None:
        """Ask the running job to end at its next step."""
        with self._lock:
            if self.current is not None and self.current.state == "running":
                self.current.state = "stopping"
            return self.current

    def _run(self, job: BackgroundJob, work: Work) -> None:
        # Stands unless an ending below replaces it, so that a bug never looks like success.
        ending, error = "failed", "it ended unexpectedly; the server's terminal says more"
        try:
            job.address = work(lambda *step: _reporting(job, *step))
            ending, error = "done", None
        except _StoppedError:
            ending, error = "stopped", None
        except FailsearchError as known:
            error = str(known)
        finally:
            with self._lock:  # or a stop in this moment would bring the ended job back
                job.error, job.state = error, ending


@contextmanager
def _reporting(
    job: BackgroundJob, description: str, total: int, done: int = 0
) -> Iterator[Tracker]:
    job.step, job.total, job.done = description, total, done
    tracker = _Tracker(job)
    tracker.advance(0)
    yield tracker


class _Tracker:
    def __init__(self, job: BackgroundJob) -> None:
        self._job = job

    def advance(self, count: int) -> None:
        if self._job.state == "stopping":
            raise _StoppedError
        self._job.done += count

    def note(self, text: str) -> None:
        self._job.step = text
