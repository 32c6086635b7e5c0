"""The corrected data set: every kind of source, and columns that stand in the way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer.datasets import open_dataset
from indexer.store import Store
from search.audit.corrected import corrected_manifest
from search.audit.decisions import FINE, NO_IMAGE, WRONG_LABEL, decide, read_decisions
from search.export import write_table
from tests.support.arrays import index_of_arrays
from tests.support.tiny_run import tiny_images

NAMES = ("cat", "dog")


def index_of(path: Path, *sources: dict[str, Any], **metadata: list) -> Store:
    """Index six samples r0 to r5 with refs 0 to 5, given in turn to the sources."""
    labels = np.arange(6) % 2
    store = index_of_arrays(
        path,
        raw=np.random.default_rng(0).lognormal(-3, 1, (6, 4)).astype(np.float32),
        logits=np.eye(2, dtype=np.float32)[labels],
        labels=labels,
        names=NAMES,
        metadata=metadata,
        sources=[row % len(sources) for row in range(6)],
    )
    store.publish(replace(store.manifest, sources=sources))
    return store


FOLDER = {"kind": "folder", "path": "/data/photos", "options": {}}
MANIFEST = {"kind": "manifest", "path": "/data/more/list.csv", "options": {}}
PARQUET = {"kind": "parquet", "path": "/data/all.parquet", "options": {}}
NAMED = {"kind": "torch", "path": "torch/cifar10", "options": {"split": "test"}}


def test_files_of_several_data_sets_have_absolute_paths(tmp_path: Path) -> None:
    store = index_of(tmp_path / "db", FOLDER, MANIFEST, light=list("abcdef"), verdict=[1.0] * 6)
    decide(store, "r0", WRONG_LABEL, "dog")
    decide(store, "r1", NO_IMAGE)
    decide(store, "r2", FINE)
    table = corrected_manifest(store, read_decisions(store))
    assert table.column_names == [
        *("id", "path", "label", "original_label", "verdict", "light", "meta_verdict")
    ]
    assert table["path"].to_pylist() == [
        *("/data/photos/0", "/data/photos/2", "/data/more/3", "/data/photos/4", "/data/more/5")
    ]
    assert table["label"].to_pylist() == ["dog", "cat", "dog", "cat", "dog"]
    assert table["original_label"].to_pylist() == ["cat", "cat", "dog", "cat", "dog"]
    assert table["verdict"].to_pylist() == [WRONG_LABEL, FINE, None, None, None]
    assert table["light"].to_pylist() == list("acdef")


def test_images_without_files_are_named_by_source_and_row(tmp_path: Path) -> None:
    store = index_of(tmp_path / "db", PARQUET, NAMED)
    table = corrected_manifest(store, {})
    assert table.column_names == [
        *("id", "source", "split", "row", "label", "original_label", "verdict")
    ]
    assert table.slice(0, 2).select(["source", "split", "row"]).to_pylist() == [
        {"source": "/data/all.parquet", "split": None, "row": 0},
        {"source": "torch/cifar10", "split": "test", "row": 1},
    ]
    only_rows = corrected_manifest(index_of(tmp_path / "one", PARQUET), {})
    assert "split" not in only_rows.column_names


def test_files_and_rows_stand_side_by_side(tmp_path: Path) -> None:
    table = corrected_manifest(index_of(tmp_path / "db", FOLDER, PARQUET), {})
    assert table.slice(0, 2).select(["path", "source", "row"]).to_pylist() == [
        {"path": "/data/photos/0", "source": None, "row": None},
        {"path": None, "source": "/data/all.parquet", "row": 1},
    ]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_was_corrected_opens_as_a_data_set(tmp_path: Path, suffix: str) -> None:
    """Of a split of a folder, whose references are relative to that split."""
    tiny_images(tmp_path / "images" / "val", count=6, broken=False)
    dataset = open_dataset(tmp_path / "images", split="validation")
    rows = list(dataset.rows())
    store = index_of(tmp_path / "db", dataset.to_source())
    table = store.table("samples").to_arrow()
    column = table.schema.get_field_index("ref")
    store.create_samples(table.set_column(column, "ref", [[row.ref for row in rows]]).to_reader())
    manifest = tmp_path / "elsewhere" / f"corrected.{suffix}"
    manifest.parent.mkdir()
    write_table(corrected_manifest(store, {}), manifest)
    again = open_dataset(manifest)
    found = list(again.rows())
    assert [row.id for row in found] == [f"r{row}" for row in range(6)]
    assert [again.read(row.ref) for row in found] == [dataset.read(row.ref) for row in rows]
    assert not any(row.error for row in found)


NAMES_OF_CLASSES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6), min_size=1
)


@given(names=NAMES_OF_CLASSES)
@example(names=["NA", "None", "null", "NaN", "cat"])
@example(names=["", " ", "a, b", '"quoted"\r\n'])
def test_every_class_name_comes_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    table = pa.table({"path": [f"{row}.png" for row in range(len(names))], "label": names})
    for suffix in ("csv", "parquet"):
        file = tmp_path_factory.mktemp("classes") / f"corrected.{suffix}"
        write_table(table, file)
        found = open_dataset(file).expecting(names)
        if found.class_names is not None:  # bare integers are matched to a model's names later
            assert [row.label_name for row in found.rows()] == names
