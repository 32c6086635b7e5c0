"""Runs tiny indexing jobs in forked children, and kills them when told to.

Importing torch and lancedb takes seconds; a fork takes milliseconds. The server imports both and
never uses them, so that no thread of theirs is lost in a child.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc")
SEGMENT_BATCHES = 3
"""Shorter segments than in earnest, so that small runs have several."""


@dataclass(frozen=True)
class Job:
    """One run in a child process.

    Attributes:
        images: folder of the data set.
        db: the database.
        add: add the data set to a finished index, rather than index it.
        ann: build the approximate index of a finished index instead.
        kill_after: seconds until SIGKILL; None lets it finish.
        platter: folder that records what was synced, see `platter`; None syncs for real.
        fail_at: the disk fails from this operation on; None for a good disk, 0 only counts.
        fail_once: only that operation fails.
        fail_with: errno.
    """

    images: str
    db: str
    add: bool = False
    ann: bool = False
    kill_after: float | None = None
    platter: str | None = None
    fail_at: int | None = None
    fail_once: bool = False
    fail_with: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        killed: whether it was still running when its time came.
        code: exit code; 0 done, 2 an error of ours, 1 anything else.
        text: the error.
        seconds: wall time.
        operations: disk operations counted by a failing disk.
    """

    killed: bool
    code: int
    text: str
    seconds: float
    operations: int = 0


def build_failing_disk(folder: Path) -> Path | None:
    """Compile `failing_disk.c` into a folder; None where there is no compiler."""
    if COMPILER is None:
        return None
    library = folder / "failing_disk.so"
    source = Path(__file__).with_name("failing_disk.c")
    flags = ["-O2", "-shared", "-fPIC", "-Wall", "-Werror"]
    subprocess.run([COMPILER, *flags, "-o", library, source, "-ldl"], check=True)
    return library


class Server:
    """The parent's end; a context manager."""

    def __init__(self, preload: Path | None = None) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if preload is not None:
            environment["LD_PRELOAD"] = str(preload)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.server"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, job: Job) -> Outcome:
        """Run a job to its end, or to the end of its time."""
        pipes = self._process.stdin, self._process.stdout
        assert pipes[0] is not None
        assert pipes[1] is not None
        print(json.dumps(asdict(job)), file=pipes[0], flush=True)
        return Outcome(**json.loads(pipes[1].readline()))


def serve() -> None:
    """Answer jobs from stdin, one line each, until it ends."""
    import lancedb  # noqa: F401

    import indexer.pipeline  # noqa: F401
    import tests.support.tiny_run  # noqa: F401

    warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)
    for line in sys.stdin:
        print(json.dumps(asdict(_run_child(Job(**json.loads(line))))), flush=True)


def _run_child(job: Job) -> Outcome:
    reader, writer = os.pipe()
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os._exit(_work(job, writer))
    os.close(writer)
    killed = False
    if job.kill_after is not None:
        time.sleep(job.kill_after)
        killed = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    said: dict[str, Any] = json.loads(text) if text and not killed else {}
    return Outcome(
        killed=killed,
        code=os.waitstatus_to_exitcode(status),
        text=said.get("text", ""),
        seconds=time.perf_counter() - started,
        operations=said.get("operations", 0),
    )


def _work(job: Job, pipe: int) -> int:
    """Do the job in the child; returns its exit code."""
    from indexer.errors import FailsearchError

    disk = None
    code, text = 0, ""
    try:
        if job.fail_at is not None:
            disk = ctypes.CDLL(None)
            once = int(job.fail_once)
            disk.failing_disk_arm(job.db.encode(), job.fail_at, once, job.fail_with)
        _index(job)
    except FailsearchError as error:
        code, text = 2, str(error)
    except BaseException:
        code, text = 1, traceback.format_exc()
    operations = disk.failing_disk_disarm() if disk is not None else 0
    os.write(pipe, json.dumps({"text": text[-4000:], "operations": operations}).encode())
    return code


def _index(job: Job) -> None:
    import torch

    from indexer import stream
    from indexer.datasets import open_dataset
    from indexer.pipeline import IndexSettings, add_dataset, index_dataset
    from indexer.progress import silent
    from indexer.store import Store
    from tests.crash.platter import Recorder
    from tests.support.tiny_run import tiny_model

    if job.ann:
        return Store.open(job.db).index_profiles(partitions=1)
    torch.set_num_threads(1)
    stream.SEGMENT_BATCHES = SEGMENT_BATCHES
    if job.platter is not None:
        os.fsync = Recorder(Path(job.db), Path(job.platter)).fsync  # type: ignore[assignment]
    run = add_dataset if job.add else index_dataset
    settings = IndexSettings(batch_size=4, workers=2)
    run(open_dataset(job.images), tiny_model(), job.db, settings, progress=silent)


if __name__ == "__main__":
    serve()
