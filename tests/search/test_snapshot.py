"""Cached and mapped files: what they hold, when they are made again, and when they are not used."""

import gc
import json
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from indexer.errors import StoreError
from indexer.store import Store
from search import cache, lance_file
from search.neighbours import SearchSettings, search
from search.snapshot import Snapshot, snapshot
from search.stored_graph import neighbour_graph
from tests.support.arrays import index_of_arrays

from .conftest import make_index, profiles_of


def appended(store: Store, rows: int = 5) -> None:
    """Add copies of the first rows under new ids."""
    table = store.read(store.table("samples").schema.names, limit=rows)
    ids = [f"new{row}" for row in range(rows)]
    table = table.set_column(0, table.schema.field("id"), [ids])
    store.append_samples(table.to_reader())


def test_the_column_is_mapped_where_lance_wrote_it(fresh: Store) -> None:
    _, profiles, _ = profiles_of(fresh)
    version = snapshot(fresh)
    np.testing.assert_array_equal(np.concatenate(list(version.column.parts)), profiles)
    segments = json.loads((version.folder / "segments.json").read_text())
    assert all(part["file"].startswith("data/") for part in segments)
    assert not (version.folder / "profiles.bin").exists()


def test_added_rows_are_seen_and_old_caches_removed(fresh: Store) -> None:
    before = snapshot(fresh)
    assert snapshot(fresh) is before
    appended(fresh)
    after = snapshot(fresh)
    assert len(after) == len(before) + 5
    _, profiles, _ = profiles_of(fresh)
    np.testing.assert_array_equal(after.column.rows(np.arange(len(after))), profiles)
    assert [path.name for path in (fresh.path / "cache").iterdir()] == [after.folder.name]
    assert search(fresh, "new0", SearchSettings(among="all")).neighbours[0].sample.id == "r0"


def test_a_table_made_anew_under_the_same_version_is_not_confused(tmp_path: Path) -> None:
    first = search(make_index(tmp_path / "a", seed=0), "r1")
    folder = tmp_path / "a" / "cache"
    kept = [path.name for path in folder.iterdir()]
    moved = tmp_path / "moved"
    folder.rename(moved)
    import shutil

    shutil.rmtree(tmp_path / "a")
    again = make_index(tmp_path / "a", seed=5)
    moved.rename(folder)
    second = search(again, "r1")
    assert second != first
    assert snapshot(again).folder.name not in kept


@pytest.mark.parametrize("name", ["samples.arrow", "segments.json", "norms.npy"])
@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_damaged_cache_files_are_made_again(fresh: Store, name: str, content: bytes) -> None:
    before = search(fresh, "r1")
    folder = snapshot(fresh).folder
    (folder / name).write_bytes(content)
    assert search(Store.open(fresh.path), "r1") == before
    assert (folder / name).read_bytes() != content


def test_deleted_rows_are_searched_in_a_copy(fresh: Store) -> None:
    search(fresh, "r1")
    with fresh.commit("samples"):
        fresh.table("samples").delete("id = 'r7'")
    version = snapshot(fresh)
    assert (version.folder / "profiles.bin").exists()
    _, profiles, _ = profiles_of(fresh)
    assert len(profiles) == len(version)
    np.testing.assert_array_equal(version.column.rows(np.arange(len(version))), profiles)


def test_a_map_that_disagrees_with_the_database_is_refused(
    fresh: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offsets that are wrong by a row are caught by the comparison, and a copy is used."""
    real = lance_file.locate_column

    def shifted(*arguments: object) -> object:
        from dataclasses import replace

        (part,) = real(*arguments)  # type: ignore[misc]
        return (replace(part, offset=part.offset + 1600),)

    monkeypatch.setattr("search.snapshot.locate_column", shifted)
    version = snapshot(fresh)
    assert (version.folder / "profiles.bin").exists()
    _, profiles, _ = profiles_of(fresh)
    np.testing.assert_array_equal(version.column.rows(np.arange(len(version))), profiles)


def test_unknown_layouts_are_not_mapped(store: Store, tmp_path: Path) -> None:
    table = store.path / "samples.lance"
    manifest = cache.version_manifest(store)
    assert lance_file.locate_column(table, manifest, "profile", 1600) is not None
    assert lance_file.locate_column(table, manifest, "profile", 800) is None
    assert lance_file.locate_column(table, manifest, "nothing", 1600) is None
    assert lance_file.locate_column(table, manifest, "id", 1600) is None
    for content in (b"", b"x" * 40, manifest.read_bytes()[:-30]):
        damaged = tmp_path / "1.manifest"
        damaged.write_bytes(content)
        assert lance_file.locate_column(table, damaged, "profile", 1600) is None


def test_damaged_bytes_never_raise(store: Store, tmp_path: Path) -> None:
    random, table = np.random.default_rng(0), store.path / "samples.lance"
    whole = cache.version_manifest(store).read_bytes()
    damaged = tmp_path / "1.manifest"
    for _ in range(500):
        content = np.frombuffer(whole, np.uint8).copy()
        content[random.integers(0, len(content), 3)] = random.integers(0, 256, 3)
        damaged.write_bytes(content.tobytes())
        lance_file.locate_column(table, damaged, "profile", 1600)


def test_a_database_that_cannot_be_written_is_searched_from_memory(
    fresh: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert len(search(fresh, "r1")) == 10
    assert not (fresh.path / "cache").exists()


def test_narrow_profiles_are_copied_for_lance_packs_them(tmp_path: Path) -> None:
    store = index_of_arrays(
        tmp_path / "narrow",
        raw=np.random.default_rng(0).random((50, 8)).astype(np.float32),
        logits=np.eye(2, dtype=np.float32)[np.arange(50) % 2],
        labels=np.zeros(50, np.int64),
        names=("a", "b"),
    )
    _, profiles, _ = profiles_of(store)
    version = snapshot(store)
    assert (version.folder / "profiles.bin").exists()
    np.testing.assert_array_equal(version.column.rows(np.arange(50)), profiles)


def test_a_copy_that_cannot_be_written_beside_the_table_is_temporary(
    fresh: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.snapshot.locate_column", lambda *_: None)
    monkeypatch.setattr("search.cache.write", lambda *_: False)
    _, profiles, _ = profiles_of(fresh)
    version = snapshot(fresh)
    assert not version.folder.exists()
    np.testing.assert_array_equal(version.column.rows(np.arange(len(profiles))), profiles)


def test_a_snapshot_goes_with_its_database(fresh: Store) -> None:
    version, opened = weakref.ref(snapshot(fresh)), Store.open(fresh.path)
    other = weakref.ref(snapshot(opened))
    del opened
    gc.collect()
    assert other() is None
    assert version() is snapshot(fresh)


def test_threads_share_one_snapshot(fresh: Store) -> None:
    seen: list[Snapshot] = []
    threads = [threading.Thread(target=lambda: seen.append(snapshot(fresh))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, seen))) == 1


def test_clearing_frees_what_it_says(fresh: Store) -> None:
    search(fresh, "r1")
    size = cache.size(fresh)
    assert size > 0
    assert cache.clear(fresh) == size
    assert cache.size(fresh) == 0
    assert len(search(Store.open(fresh.path), "r1")) == 10


def test_no_samples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no table samples"):
        snapshot(Store.create(tmp_path / "empty"))


def test_graph_of_an_index_is_that_of_single_searches(fresh: Store) -> None:
    graph = neighbour_graph(fresh, k=4)
    assert list(graph.ids) == sorted(graph.ids)
    for row, name in enumerate(graph.ids):
        single = search(fresh, name, SearchSettings(k=4))
        assert [graph.ids[n] for n in graph.indices[row]] == [
            item.sample.id for item in single.neighbours
        ]
        np.testing.assert_allclose(
            graph.scores[row], [item.score for item in single.neighbours], atol=1e-6
        )


def test_graph_is_kept_by_version_and_settings(fresh: Store) -> None:
    calls: list[tuple[int, int]] = []

    def count(*at: int) -> None:
        calls.append(at)  # type: ignore[arg-type]

    first = neighbour_graph(fresh, k=3, progress=count)
    assert calls
    calls.clear()
    again = neighbour_graph(Store.open(fresh.path), k=3, progress=count)
    assert not calls
    np.testing.assert_array_equal(first.indices, again.indices)
    rainy = neighbour_graph(fresh, k=3, filters=("weather=rain",), among="all", progress=count)
    assert calls
    assert {int(name[1:]) % 3 for name in rainy.ids} == {1}
    calls.clear()
    appended(fresh)
    neighbour_graph(fresh, k=3, progress=count)
    assert calls
