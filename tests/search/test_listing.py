"""Lists of failures and their files."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from indexer.errors import FilterError, SettingError, StoreError
from indexer.store import Store
from search.export import export, export_folders, write_table
from search.listing import list_samples
from search.results import Sample

from .conftest import make_index


def test_failures_sorted_filtered_and_limited(store: Store) -> None:
    listing = list_samples(store)
    rows = store.read(["id", "loss", "correct", "label_name"]).to_pylist()
    failures = [row for row in rows if not row["correct"]]
    expected = sorted(failures, key=lambda row: (-row["loss"], row["id"]))
    assert [sample.id for sample in listing] == [row["id"] for row in expected]
    assert listing.total == len(failures)
    first = list_samples(store, limit=3, sort="speed", filters=("label!=cat",))
    chosen = [row["id"] for row in failures if row["label_name"] != "cat"]
    assert [sample.id for sample in first.samples] == chosen[:3]
    assert first.total == len(chosen)
    assert len(list_samples(store, among="all", sort="id")) == len(rows)
    assert len(list_samples(store, limit=0)) == 0


def test_members_alone_are_listed(store: Store) -> None:
    ids = [sample.id for sample in list_samples(store, sort="id")]
    right = store.read(["id"], "correct")["id"][0].as_py()
    chosen = list_samples(store, sort="-id", limit=2, members=[*ids[:3], right])
    assert [sample.id for sample in chosen] == [ids[2], ids[1]]
    assert chosen.total == 3
    assert list_samples(store, members=[]).total == 0
    assert list_samples(store, among="all", members=[right]).samples[0].id == right


def test_ties_are_ordered_by_id(store: Store) -> None:
    ids = [sample.id for sample in list_samples(store, sort="-correct")]
    assert ids == sorted(ids)
    assert [sample.id for sample in list_samples(store, sort="-id")] == sorted(ids, reverse=True)


def test_json_html_and_frames(store: Store) -> None:
    listing = list_samples(store, limit=4)
    document = json.loads(json.dumps(listing.to_json()))
    assert [item["id"] for item in document["failures"]] == [s.id for s in listing.samples]
    assert listing.to_arrow().num_rows == len(listing.to_pandas()) == 4
    page = listing._repr_html_()
    assert f"and {listing.total - 4} more" in page
    assert "it's" not in page


def test_mistakes_are_named(store: Store) -> None:
    with pytest.raises(FilterError, match="cannot sort by 'top_classes'"):
        list_samples(store, sort="top_classes")
    with pytest.raises(FilterError, match="cannot sort by 'height of it'"):
        list_samples(store, sort="height of it")
    with pytest.raises(SettingError, match="limit"):
        list_samples(store, limit=-1)


def test_files(store: Store, tmp_path: Path) -> None:
    listing = list_samples(store)
    for name in ("f.csv", "f.parquet", "f.arrow", "f.jsonl"):
        assert export(listing, tmp_path / name) == len(listing)
    assert pq.read_table(tmp_path / "f.parquet").equals(listing.table)
    assert pa.ipc.open_file(tmp_path / "f.arrow").read_all().equals(listing.table)
    lines = (tmp_path / "f.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == listing.to_json()["failures"]
    with (tmp_path / "f.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [sample.id for sample in listing]
    assert json.loads(rows[0]["top_classes"]) == list(listing.samples[0].top_classes)
    write_table(listing.table, tmp_path / "t.jsonl")
    first = json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0])
    assert first["meta_weather"] == listing.samples[0].metadata["weather"]
    with pytest.raises(SettingError, match="format"):
        export(listing, tmp_path / "f.txt")
    with pytest.raises(StoreError, match="cannot write"):
        export(listing, tmp_path / "absent" / "f.csv")


def test_folders_of_confused_pairs(tmp_path: Path) -> None:
    store = make_index(tmp_path / "db")
    listing = list_samples(store)

    def read(sample: Sample) -> bytes | Image.Image:
        picture = Image.new("RGB", (2, 2))
        if int(sample.id[1:]) % 2:
            return picture
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG")
        return buffer.getvalue()

    out = tmp_path / "out"
    assert export_folders(listing, out, read) == len(listing)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) == len(listing)
    assert {path.suffix for path in files} == {".jpg", ".png"}
    assert (out / "cat as dog").is_dir()
    assert len({path.parent.name for path in files}) == 6


def test_hostile_names_stay_in_their_folder(tmp_path: Path, store: Store) -> None:
    listing = list_samples(store, limit=4)
    names = ["../../x", "a/b", "a_b", ""]
    column = listing.table.schema.get_field_index("id")
    table = listing.table.set_column(column, "id", [names])
    hostile = type(listing)(table, listing.total)
    export_folders(hostile, tmp_path / "out", lambda _: b"\x89PNG")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
