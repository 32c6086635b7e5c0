"""What a recorded repair was made for, when modes change after it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from finetune.records import list_repairs, read_repair
from indexer.patched import PATCH_FILE
from indexer.store import Store
from search.modes import (
    find_modes,
    form_mode,
    merge_modes,
    read_modes,
    rename_mode,
    split_mode,
)
from search.modes.stored import write_modes
from tests.support.repairs import FINE, modes_of_arrays, record_mode_repair


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return modes_of_arrays(tmp_path / "db")


def made_for(store: Store, repair: str = "r1") -> tuple[str | None, str]:
    """Return mode and title of a repair, which the list and the record agree on."""
    report, _ = read_repair(store, repair)
    assert report in list_repairs(store)
    return report["mode"], report["title"]


def test_a_mode_stays_the_same_under_another_name(store: Store) -> None:
    mode = read_modes(store).modes[0]
    record_mode_repair(store, mode)
    assert made_for(store) == (mode.id, mode.name)
    find_modes(store)  # the same again
    rename_mode(store, mode.id, "night shots")
    assert made_for(store) == (mode.id, "night shots")


def test_a_mode_stays_the_same_under_another_id(store: Store) -> None:
    report = read_modes(store)
    record_mode_repair(store, report.modes[0])
    ids = [mode.id for mode in report.modes]
    turned = zip(report.modes, [*ids[1:], ids[0]], strict=True)
    write_modes(store, replace(report, modes=tuple(replace(m, id=new) for m, new in turned)))
    assert made_for(store) == (ids[1], report.modes[0].name)


def test_modes_found_anew_are_others(store: Store) -> None:
    mode = read_modes(store).modes[0]
    record_mode_repair(store, mode)
    found = find_modes(store, FINE)
    assert found.mode(mode.id).samples != mode.samples
    assert made_for(store) == (None, mode.name)


def test_a_merged_mode_is_another_and_its_repair_keeps_the_old_name(store: Store) -> None:
    modes = read_modes(store).modes
    for mode in modes[:3]:
        record_mode_repair(store, mode)
    merge_modes(store, [modes[0].id, modes[1].id], name="both")
    assert made_for(store, "r1") == (None, modes[0].name)
    assert made_for(store, "r2") == (None, modes[1].name)
    assert made_for(store, "r3") == (modes[2].id, modes[2].name)


def test_a_split_mode_is_another_until_it_is_whole_again(store: Store) -> None:
    mode = read_modes(store).modes[0]
    members = {*mode.samples}
    record_mode_repair(store, mode)
    split = split_mode(store, mode.id)
    assert made_for(store) == (None, mode.name)
    ids = {one.id for one in split.modes if members.issuperset(one.samples)}
    (new,) = ids - {mode.id}
    merge_modes(store, [new, mode.id], name="whole")
    assert made_for(store) == (new, "whole")


def test_a_mode_of_the_same_size_is_another(store: Store) -> None:
    mode, other = read_modes(store).modes[:2]
    record_mode_repair(store, mode)
    form_mode(store, [*mode.samples[1:], other.samples[0]])
    assert mode.size in [one.size for one in read_modes(store).modes]
    assert made_for(store) == (None, mode.name)


def test_a_record_without_the_name_is_read_by_its_members(store: Store) -> None:
    mode = read_modes(store).modes[0]
    record_mode_repair(store, mode, named=False)
    assert made_for(store) == (mode.id, mode.name)
    find_modes(store, FINE)
    assert made_for(store) == (None, mode.id)


def test_files_are_found_where_the_index_is_now(store: Store, tmp_path: Path) -> None:
    record_mode_repair(store, read_modes(store).modes[0])
    shutil.copytree(store.path, tmp_path / "moved")
    shutil.rmtree(store.path)
    (report,) = list_repairs(Store.open(tmp_path / "moved"))
    assert report["patch"] == str(tmp_path / "moved" / "repairs" / "r1" / PATCH_FILE)
    assert report["model"] == "model"  # written elsewhere, and left there
