"""Tables and matrices for neighbouring tools."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import load_npz

from indexer.errors import SettingError, StoreError
from indexer.store import Store
from search.audit.exchange import atlas_table, cleanlab_inputs, mode_names, write_knn_graph
from search.audit.fiftyone import export_fiftyone
from search.modes import find_modes
from tests.search.modes.conftest import NAMES, SAMPLES, planted_arrays
from tests.support.arrays import index_of_arrays


def test_the_atlas_has_a_map_modes_and_neighbours_by_row(store: Store) -> None:
    find_modes(store)
    table = atlas_table(store, neighbours=5)
    assert table.num_rows == store.count("NOT correct")
    assert not set(table["correct"].to_pylist()) - {False}
    assert np.isfinite(table["x"].to_numpy()).all()
    near = table["neighbors"].to_pylist()
    assert all(len(entry["ids"]) == 5 and row not in entry["ids"] for row, entry in enumerate(near))
    assert all(entry["distances"] == sorted(entry["distances"]) for entry in near)
    modes = table["mode"].to_pylist()
    same = [modes[n] == modes[row] for row, e in enumerate(near) for n in e["ids"] if modes[row]]
    assert np.mean(same) > 0.6
    assert "profile" not in table.column_names
    assert all(data.startswith(b"\xff\xd8") for data in table["image"].to_pylist())


def test_a_map_needs_failures(tmp_path: Path) -> None:
    arrays = planted_arrays()
    arrays["labels"] = arrays["logits"].argmax(1)
    with pytest.raises(SettingError, match="three failures"):
        atlas_table(index_of_arrays(tmp_path / "db", names=NAMES, **arrays))


def test_cleanlab_gets_aligned_probabilities_and_a_square_graph(store: Store) -> None:
    inputs = cleanlab_inputs(store, neighbours=7)
    assert inputs.pred_probs.shape == (SAMPLES, len(NAMES))
    np.testing.assert_allclose(inputs.pred_probs.sum(1), 1)
    correct = store.read(["correct"])["correct"].to_numpy()
    assert ((inputs.pred_probs.argmax(1) == inputs.labels) == correct).all()
    graph = inputs.knn_graph
    assert graph is not None
    assert graph.shape == (SAMPLES, SAMPLES)
    assert (np.diff(graph.indptr) == 7).all()
    assert (np.diff(graph.data.reshape(-1, 7), axis=1) >= 0).all()


def test_cleanlab_does_without_embeddings(tmp_path: Path) -> None:
    bare = index_of_arrays(tmp_path / "bare", names=NAMES, **planted_arrays())
    assert cleanlab_inputs(bare).knn_graph is None


def test_the_graph_is_read_back_by_scipy(store: Store, tmp_path: Path) -> None:
    write_knn_graph(store, tmp_path / "graph.npz", neighbours=7)
    expected = cleanlab_inputs(store, neighbours=7).knn_graph
    assert expected is not None
    assert abs(load_npz(tmp_path / "graph.npz") - expected).max() == 0
    with pytest.raises(StoreError, match="cannot write"):
        write_knn_graph(store, tmp_path / "absent" / "graph.npz")


def test_cleanlab_takes_the_written_graph(store: Store, tmp_path: Path) -> None:
    cleanlab = pytest.importorskip("cleanlab")
    pytest.importorskip("datasets")
    write_knn_graph(store, tmp_path / "graph.npz")
    inputs = cleanlab_inputs(store)
    lab = cleanlab.Datalab({"label": inputs.labels}, label_name="label", verbosity=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own use of pandas and numpy
        lab.find_issues(
            knn_graph=load_npz(tmp_path / "graph.npz"),
            issue_types={"outlier": {}, "near_duplicate": {}},
        )
    assert len(lab.get_issues("outlier")) == SAMPLES
    distances = lab.get_issues("near_duplicate")["distance_to_nearest_neighbor"]
    assert inputs.knn_graph is not None
    np.testing.assert_allclose(distances, inputs.knn_graph.data.reshape(SAMPLES, -1)[:, 0])


def test_a_graph_needs_embeddings(tmp_path: Path) -> None:
    bare = index_of_arrays(tmp_path / "bare", names=NAMES, **planted_arrays())
    with pytest.raises(SettingError, match="needs embeddings"):
        write_knn_graph(bare, tmp_path / "graph.npz")


def test_fiftyone_gets_images_and_three_files_of_targets(store: Store, tmp_path: Path) -> None:
    modes = find_modes(store)
    folder = tmp_path / "fiftyone"
    count = export_fiftyone(store, folder, lambda sample: b"\xff\xd8\xff" + sample.id.encode())
    assert count == store.count("NOT correct")
    images = {path.stem: path.read_bytes() for path in (folder / "data").glob("*.jpg")}
    documents = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in ("labels", "predictions", "modes")
    }
    assert all(set(document["labels"]) == set(images) for document in documents.values())
    for sample, name in mode_names(store).items():
        document = documents["modes"]
        assert document["classes"][document["labels"][sample]] == name
    assert all(documents["modes"]["labels"][sample] is None for sample in modes.ungrouped)
    table = store.take(list(images), ["label_name", "prediction_name", "confidence"])
    for column, name in (("label_name", "labels"), ("prediction_name", "predictions")):
        document = documents[name]
        named = [document["classes"][document["labels"][sample]["label"]] for sample in images]
        assert named == table[column].to_pylist()
    for sample, confidence in zip(images, table["confidence"].to_pylist(), strict=True):
        predicted = documents["predictions"]["labels"][sample]
        assert predicted["confidence"] == confidence
        assert set(predicted["attributes"]) == {"loss", "margin"}
        assert documents["labels"]["labels"][sample]["attributes"] == {"sample": sample}
    assert images["r0"].endswith(b"r0")


def test_fiftyone_does_without_modes(tmp_path: Path) -> None:
    bare = index_of_arrays(tmp_path / "bare", names=NAMES, **planted_arrays())
    export_fiftyone(bare, tmp_path / "out", lambda _: b"\x89PNG")
    assert not (tmp_path / "out" / "modes.json").exists()
    assert (tmp_path / "out" / "data" / "r0.png").exists()
