"""What the end of a Lance file says of its length, for data and for indexes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from indexer.check import check_database
from indexer.lance_footer import FOOTER, is_short, short_files
from indexer.store import Store
from indexer.versions import table_folder
from tests.search.conftest import make_index


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with an approximate index."""
    store = make_index(tmp_path_factory.mktemp("footer") / "made", rows=60)
    store.index_profiles(partitions=1)
    return table_folder(store.path, "samples")


def files(table: Path) -> list[Path]:
    found = [*table.glob("data/*.lance"), *table.glob("_indices/*/*.idx")]
    assert len(found) == 3
    return found


def test_whole_files_are_not_short(table: Path) -> None:
    assert not any(is_short(file) for file in files(table))
    assert short_files(table) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[: len(data) // 3] + data[len(data) // 3 + 64 :],
        lambda data: data[64:],
        lambda data: data[:20],
        lambda _: b"",
    ],
    ids=["last byte", "second half", "between", "first bytes", "all but a few", "all"],
)
def test_a_file_that_lacks_bytes_is_short(table: Path, damage: Callable[[bytes], bytes]) -> None:
    for file in files(table):
        whole = file.read_bytes()
        file.write_bytes(damage(whole))
        try:
            assert short_files(table) == [file]
        finally:
            file.write_bytes(whole)


def wrong(store: Store) -> list[str]:
    findings = check_database(store.path).findings
    return [finding.detail for finding in findings if not finding.ok]


def test_a_damaged_index_stands_in_the_way_of_no_write(tmp_path: Path) -> None:
    store = make_index(tmp_path / "made", rows=60)
    store.index_profiles(partitions=1)
    for file in table_folder(store.path, "samples").glob("_indices/*/*"):
        file.write_bytes(b"")
    assert any("build-ann" in detail for detail in wrong(store))
    rows = Store.open(store.path).read(store.table("samples").schema.names, limit=1)
    store.append_samples(rows.to_reader())
    assert Store.open(store.path).count() == 61
    store.index_profiles(partitions=1)
    assert not any("build-ann" in detail for detail in wrong(store))
    assert Store.open(store.path).count() == 61


def test_files_of_no_version_do_not_count(table: Path) -> None:
    (table / "data" / "left.lance").write_bytes(b"half")
    for name in ("0f0e0d0c-3d95-47f9-afe7-078c70467c05", "not a uuid"):
        (table / "_indices" / name).mkdir()
        (table / "_indices" / name / "index.idx").write_bytes(b"half")
    assert short_files(table) == []


def test_files_of_a_later_format_are_not_judged(tmp_path: Path) -> None:
    file = tmp_path / "later.lance"
    file.write_bytes(FOOTER.pack(0, 1, 2, 3, 4, 3, 0, b"LANC"))
    assert not is_short(file)
    file.write_bytes(FOOTER.pack(0, 1, 2, 3, 4, 2, 2, b"LANC"))
    assert is_short(file)
