"""Break a writer at random points, go on, and compare with what an undisturbed writer left."""

import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pyarrow as pa

from indexer.errors import StoreWarning
from indexer.manifest import MANIFEST_FILE
from indexer.store import Store
from tests.support.tiny_run import contents, tiny_images

from .platter import Platter, replace_by
from .server import Job, Outcome, Server

LONGEST_DELAY = 1.1
"""Latest kill, in durations of an undisturbed run: some runs must get through."""

PATIENCE = 1.05
"""How much later each further kill of one database may come: a machine that others keep busy since
the rehearsals would never finish one."""

REHEARSALS = 3
"""Undisturbed runs; the first is slower than all that follow."""


@dataclass
class Tally:
    """What a series of trials saw.

    Attributes:
        points: runs that were broken.
        completed: databases that were finished and compared.
        set_aside: damaged versions that were set aside on opening.
        faults: everything that should not have happened, in words.
    """

    points: int = 0
    completed: int = 0
    set_aside: int = 0
    faults: list[str] = field(default_factory=list)

    def __iadd__(self, other: "Tally") -> "Tally":
        self.points += other.points
        self.completed += other.completed
        self.set_aside += other.set_aside
        self.faults += other.faults
        return self


class Ground:
    """A folder with data, undisturbed results, and the time they take.

    Args:
        folder: where everything goes.
        server: runs the jobs.
        images: rows of the first data set; half as many are added later.
    """

    def __init__(self, folder: Path, server: Server, images: int = 40) -> None:
        self._folder, self._server = folder, server
        tiny_images(folder / "first", images, seed=1)
        tiny_images(folder / "second", images // 2, seed=2)
        self._seconds = {}
        for add in (False, True):
            outcomes = [self._undisturbed(add) for _ in range(REHEARSALS)]
            self._seconds[add] = min(outcome.seconds for outcome in outcomes)
        self._whole = {False: contents(folder / "indexed"), True: contents(folder / "added")}

    def _undisturbed(self, add: bool) -> Outcome:
        whole = self._folder / ("added" if add else "indexed")
        outcome = self._server.run(self._job(self._fresh(add), add))
        if outcome.code:
            raise RuntimeError(outcome.text)
        shutil.rmtree(whole, ignore_errors=True)
        (self._folder / "db").rename(whole)
        return outcome

    def kill(self, points: int, random: Random, *, add: bool = False) -> Tally:
        """Kill runs at `points` random times, until each database is finished."""
        return self._break(points, random, add, power_cut=None)

    def cut_power(self, points: int, random: Random, *, add: bool, dropped: str) -> Tally:
        """Kill runs and drop "all" or "some" of what they had not synced."""
        return self._break(points, random, add, power_cut=dropped)

    def fail_writes(self, points: int, random: Random, *, add: bool, errno: int) -> Tally:
        """Let the disk fail at random operations: once, or from there on."""
        tally = Tally()
        db = self._fresh(add)
        counting = self._server.run(self._job(db, add, fail_at=0))
        while tally.points < points:
            db = self._fresh(add)
            failing = {
                "fail_at": random.randint(1, counting.operations),
                "fail_once": random.random() < 0.5,
                "fail_with": errno,
            }
            outcome = self._server.run(self._job(db, add, **failing))
            tally.points += 1
            self._expect(outcome, (0, 2), tally, f"{failing}")
            self._check_finished(self._server.run(self._job(db, add)), db, add, tally)
        return tally

    def _break(self, points: int, random: Random, add: bool, power_cut: str | None) -> Tally:
        tally = Tally()
        while tally.points < points:
            db, segments, longest = self._fresh(add), 0, LONGEST_DELAY * self._seconds[add]
            while (outcome := self._disturb(db, add, random, power_cut, longest)).killed:
                tally.points += 1
                longest *= PATIENCE
                segments = self._check_broken(db, add, segments, random, tally)
            self._check_finished(outcome, db, add, tally)
        return tally

    def _disturb(
        self, db: Path, add: bool, random: Random, power_cut: str | None, longest: float
    ) -> Outcome:
        delay = random.uniform(0, longest)
        if power_cut is None:
            return self._server.run(self._job(db, add, kill_after=delay))
        path, restored = self._folder / "platter", self._folder / "restored"
        outcome = self._server.run(self._job(db, add, kill_after=delay, platter=str(path)))
        platter = Platter(path, random if power_cut == "some" else None)
        if path.exists():  # else killed before it touched anything
            if (path / "folders" / str(db.stat().st_ino)).exists():
                platter.restore(db, restored)
                replace_by(db, restored)
            shutil.rmtree(path)
        return outcome

    def _check_broken(
        self, db: Path, add: bool, segments: int, random: Random, tally: Tally
    ) -> int:
        """Look at what a reader sees after a break; returns the finished segments of the spool."""
        left = sum(path.name.isdecimal() for path in db.glob("spool/*"))
        if left < segments and (db / "spool/run.json").exists():
            tally.faults.append(f"{segments - left} acknowledged segments were lost")
        published = (db / MANIFEST_FILE).exists()
        if published and random.random() < 0.5:  # else the next writer is the first to look
            samples, _, statistics = self._read(db, tally)
            expected, before = self._whole[add], self._whole[False]
            allowed = [before[0], expected[0]] if add else [expected[0]]
            if not any(samples == table for table in allowed):
                tally.faults.append("a reader saw rows that no whole version has")
            if statistics != before[2]:
                tally.faults.append("a reader saw other statistics")
        elif add and not published:
            tally.faults.append("the manifest of a published index is gone")
        return left

    def _check_finished(self, outcome: Outcome, db: Path, add: bool, tally: Tally) -> None:
        if not self._expect(outcome, (0,), tally, "continuing"):
            return
        found, expected = self._read(db, tally), self._whole[add]
        for name, mine, theirs in zip(("rows", "rejects", "statistics"), found, expected,
                                      strict=True):  # fmt: skip
            if mine != theirs:
                tally.faults.append(f"{name} of a continued run differ from a whole one")
        tally.completed += 1

    def _read(self, db: Path, tally: Tally) -> tuple[pa.Table, pa.Table | None, bytes]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", StoreWarning)
            Store.open(db)
            found = contents(db)
        tally.set_aside += sum(item.category is StoreWarning for item in caught)
        return found

    def _expect(self, outcome: Outcome, codes: tuple[int, ...], tally: Tally, action: str) -> bool:
        if outcome.code not in codes:
            tally.faults.append(f"{action}: exit code {outcome.code}, {outcome.text}")
        return outcome.code in codes

    def _fresh(self, add: bool) -> Path:
        db = self._folder / "db"
        shutil.rmtree(db, ignore_errors=True)
        if add:
            shutil.copytree(self._folder / "indexed", db)
        else:
            db.mkdir()
        return db

    def _job(self, db: Path, add: bool, **changes) -> Job:
        images = self._folder / ("second" if add else "first")
        return Job(images=str(images), db=str(db), add=add, **changes)
