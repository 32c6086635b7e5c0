"""Over 200 broken runs: no row lost, none doubled, none under another id, the same bits."""

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from indexer.store import Store
from tests.search.conftest import make_index

from .platter import Platter, Recorder
from .server import COMPILER, Job, Server, build_failing_disk
from .trials import Ground, Tally

WRITES_OF_INDEX = 14
"""Operations of the disk with which an index is written and committed; syncing follows."""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("ground")
    with Server(preload=build_failing_disk(folder)) as server:
        yield Ground(folder, server)


def require_sound(tally: Tally, points: int) -> None:
    assert tally.faults == []
    assert tally.points >= points
    assert tally.completed > 0


def test_killed_runs_continue(ground: Ground) -> None:
    require_sound(ground.kill(72, Random(1)), 72)


def test_killed_additions_continue(ground: Ground) -> None:
    require_sound(ground.kill(24, Random(2), add=True), 24)


@pytest.mark.parametrize("dropped", ["all", "some"])
@pytest.mark.parametrize("add", [False, True])
def test_power_cuts_lose_nothing_that_was_acknowledged(
    ground: Ground, dropped: str, add: bool
) -> None:
    require_sound(ground.cut_power(20, Random(3), add=add, dropped=dropped), 20)


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler to put a disk before libc")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("add", [False, True])
def test_failing_writes_are_one_error_and_lose_nothing(
    ground: Ground, add: bool, code: int
) -> None:
    require_sound(ground.fail_writes(8, Random(4), add=add, errno=code), 8)


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler to put a disk before libc")
@pytest.mark.filterwarnings("ignore::indexer.errors.StoreWarning")
def test_no_approximate_index_is_kept_of_which_a_write_failed(tmp_path: Path) -> None:
    whole, db = tmp_path / "whole", tmp_path / "db"
    rows = make_index(whole, rows=60).table("samples").to_arrow()
    build = Job(images="", db=str(db), ann=True)
    with Server(preload=build_failing_disk(tmp_path)) as server:
        shutil.copytree(whole, db)
        assert server.run(replace(build, fail_at=0)).operations >= WRITES_OF_INDEX
        refused = 0
        for number in range(1, WRITES_OF_INDEX + 1):
            shutil.rmtree(db)
            shutil.copytree(whole, db)
            failing = replace(build, fail_at=number, fail_once=True, fail_with=errno.EIO)
            outcome = server.run(failing)
            assert outcome.code in (0, 2), outcome.text
            lost = "lost part" in outcome.text
            refused += lost
            if lost:
                assert server.run(build).code == 0, "the same command may be repeated"
            table: Any = Store.open(db).table("samples")
            assert table.to_arrow() == rows
            indexes = table.list_indices()
            assert len(indexes) == 1 or (outcome.code == 2 and not lost)
            for index in indexes:
                table.prewarm_index(index.name)  # reads it from end to end
    assert refused > 0, "Lance notices failed writes by itself by now"


def test_the_platter_forgets_what_was_not_synced(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    (folder / "old").mkdir(parents=True)
    (folder / "old/kept").write_text("kept")
    recorder = Recorder(folder, tmp_path / "platter")
    (folder / "old/kept").rename(folder / "old/renamed")
    (folder / "synced").write_text("content")
    (folder / "named").write_text("content")
    with (folder / "synced").open() as file:
        recorder.fsync(file.fileno())
    (folder / "unnamed").write_text("content")
    (folder / "unnamed").unlink()
    descriptor = os.open(folder, os.O_RDONLY)
    recorder.fsync(descriptor)
    os.close(descriptor)
    (folder / "late").write_text("content")
    Platter(tmp_path / "platter").restore(folder, tmp_path / "restored")
    left = {
        str(path.relative_to(tmp_path / "restored")): path.read_text()
        for path in (tmp_path / "restored").rglob("*")
        if path.is_file()
    }
    assert left == {"old/kept": "kept", "synced": "content", "named": ""}
