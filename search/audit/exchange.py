"""Failures and neighbours in the forms that neighbouring tools read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from indexer.durability import disk_errors, replace_file
from indexer.errors import SettingError
from indexer.schema import EMBEDDING, HEAVY, ID, LOGITS, SAMPLES, THUMBNAIL
from indexer.store import Store

from ..arrow import dense
from ..graph import knn_graph
from ..map import failure_map
from ..modes import ModeSettings, known_modes
from ..modes.evidence import gather

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def atlas_table(store: Store, neighbours: int = 10) -> pa.Table:
    """Return the failures as a table for Embedding Atlas.

    Open it with `embedding-atlas FILE --image image --x x --y y --neighbors neighbors`.

    Args:
        store: the index.
        neighbours: of each failure, at most.

    Returns:
        the light columns of the failures, their thumbnail (`image`, JPEG), the name of their mode,
        their place on the map of `search.map` (`x`, `y`), and `neighbors` {ids: zero-based rows,
        distances: 1 - cosine}.

    Raises:
        SettingError: neighbours below 1, or fewer than three failures.
    """
    evidence = gather(store, ModeSettings())
    ids = evidence.ids.tolist()
    if len(ids) < 3:
        raise SettingError(f"a map needs at least three failures, {store.path} has {len(ids)}")
    indices, cosines = knn_graph(evidence.features, neighbours)
    columns = [name for name in store.table(SAMPLES).schema.names if name not in HEAVY]
    table = store.take(ids, [*columns, THUMBNAIL])
    table = table.rename_columns({THUMBNAIL: "image"})
    near = [
        {"ids": row[row >= 0].tolist(), "distances": (1 - near_row[row >= 0]).tolist()}
        for row, near_row in zip(indices, cosines, strict=True)
    ]
    kind = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
    x, y = failure_map(store).places.T
    modes = list(map(mode_names(store).get, ids))
    table = table.append_column("mode", pa.array(modes, pa.string()))
    table = table.append_column("x", pa.array(x)).append_column("y", pa.array(y))
    return table.append_column("neighbors", pa.array(near, kind))


@dataclass(frozen=True)
class CleanlabInputs:
    """Arguments of cleanlab's `Datalab.find_issues`, and the labels to make the Datalab of.

    Attributes:
        ids: n sample ids.
        labels: int64 [n].
        pred_probs: float64 [n, C].
        knn_graph: distances 1 - cosine of embeddings, k stored entries a row, nearest first.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    pred_probs: np.ndarray
    knn_graph: "csr_matrix | None"


def cleanlab_inputs(store: Store, neighbours: int = 10) -> CleanlabInputs:
    """Return what cleanlab asks of an index; cleanlab itself is not needed for it.

    Classes are numbered as in the index, so make the Datalab of these integer labels: of names it
    would sort the columns of `pred_probs` by name.

    Args:
        store: the index.
        neighbours: of each sample, or all others where there are fewer; cleanlab's own default
            is 10.
    """
    from scipy.sparse import csr_matrix
    from scipy.special import softmax

    embedded = store.manifest.embedding is not None
    table = store.read([ID, "label", LOGITS, *([EMBEDDING] if embedded else [])])
    graph, n = None, len(table)
    if embedded and n > 1:
        embeddings = dense(table[EMBEDDING])
        indices, cosines = knn_graph(embeddings, k := min(neighbours, n - 1))
        # Vectors of zeros have no neighbours: cleanlab wants k of each, so some are made far away.
        distances = np.clip(1 - np.nan_to_num(cosines, nan=-1), 0, 2)
        rows = np.arange(0, n * k + 1, k)
        graph = csr_matrix((distances.ravel(), np.maximum(indices, 0).ravel(), rows), (n, n))
    return CleanlabInputs(
        ids=tuple(table[ID].to_pylist()),
        labels=table["label"].to_numpy().astype(np.int64),
        pred_probs=softmax(dense(table[LOGITS]).astype(np.float64), axis=1),
        knn_graph=graph,
    )


def write_knn_graph(store: Store, path: Path, neighbours: int = 10) -> None:
    """Write the graph of `cleanlab_inputs` for `scipy.sparse.load_npz`; rows follow the index.

    Raises:
        SettingError: the index has no embeddings.
        StoreError: the file cannot be written.
    """
    from scipy.sparse import save_npz

    graph = cleanlab_inputs(store, neighbours).knn_graph
    if graph is None:
        raise SettingError(f"a graph needs embeddings of two samples, {store.path} has none")
    with disk_errors(path), replace_file(path) as file:
        save_npz(file, graph)


def mode_names(store: Store) -> dict[str, str]:
    """Return the name of the mode of each grouped failure by id; empty without modes."""
    report = known_modes(store)
    modes = {} if report is None else report.by_sample()
    return {sample: mode.name for sample, mode in modes.items()}
