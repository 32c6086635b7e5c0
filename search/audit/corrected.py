"""The data set corrected according to what a person decided about suspects."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes its compute functions at import, where no type checker sees them)

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from indexer.datasets.folder import FolderDataset, split_folder
from indexer.datasets.manifest_file import ManifestDataset
from indexer.schema import ID, METADATA_PREFIX

from ..snapshot import snapshot
from .decisions import NO_IMAGE

if TYPE_CHECKING:
    from indexer.store import Store

FILE = {"path": pa.string()}
ROW = {"source": pa.string(), "split": pa.string(), "row": pa.int64()}
"""Columns that say where an image is: as a file of its own, or as a row of a data set."""


def corrected_manifest(store: "Store", decisions: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """Return the data set with the decisions applied, a row a sample.

    Samples that are no image of anything are left out. The columns are `id`, where the image is,
    `label` (the right class where the label was wrong), `original_label`, `verdict` (null where
    nothing was decided) and the data set's own columns by their bare names, or with the prefix
    `meta_` where the name is one of those here.

    Where an image is depends on its data set. Of a folder or a manifest file it is `path`, which
    is absolute: a table of such data sets can be indexed and trained on as it is. An image in a
    parquet or tar file or a named data set (`torch/...`, `hfds/...`) has no path: `source` is its
    data set as it was indexed, `split` the split that was asked for, and `row` counts from 0 over
    all files of the source. Such rows say which labels to change there, and cannot be indexed by
    themselves. Columns that no image needs are left out; in an index of both kinds they are null
    for the images of the other kind.

    Args:
        store: the index.
        decisions: as `read_decisions` returns them.

    Raises:
        DataError: a folder was indexed by the name of a split, and is gone.
    """
    samples = snapshot(store).samples
    verdicts = _decided("verdict", samples, decisions)
    kept = pc.fill_null(pc.not_equal(verdicts, NO_IMAGE), True)
    samples, verdicts = samples.filter(kept), verdicts.filter(kept)
    right = _decided("right_name", samples, decisions)
    columns = {
        ID: samples[ID],
        **_places(samples, store.manifest.sources),
        "label": pc.coalesce(right, samples["label_name"]),
        "original_label": samples["label_name"],
        "verdict": verdicts,
    }
    taken = {*columns, *FILE, *ROW}
    for name in samples.column_names:
        if name.startswith(METADATA_PREFIX):
            bare = name.removeprefix(METADATA_PREFIX)
            columns[name if bare in taken else bare] = samples[name]
    return pa.table(columns)


def _decided(
    field: str, samples: pa.Table, decisions: Mapping[str, Mapping[str, Any]]
) -> pa.StringArray:
    """Return one field of the decisions on samples, null where there is none."""
    values = [decisions.get(sample, {}).get(field) for sample in samples[ID].to_pylist()]
    return pa.array(values, pa.string())


def _places(samples: pa.Table, sources: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Return the columns that say where the images are."""
    folders = [_folder(source) for source in sources]
    pairs = zip(samples["source"].to_pylist(), samples["ref"].to_pylist(), strict=True)
    places = [
        {"path": os.path.join(folder, ref)}
        if (folder := folders[number]) is not None
        else {
            "source": sources[number]["path"],
            "split": sources[number].get("options", {}).get("split"),
            "row": int(ref),
        }
        for number, ref in pairs
    ]
    columns = {
        name: pa.array([place.get(name) for place in places], kind)
        for name, kind in {**FILE, **ROW}.items()
    }
    return {name: column for name, column in columns.items() if column.null_count < len(column)}


def _folder(source: Mapping[str, Any]) -> str | None:
    """Return the folder that references into a source start from; None for row numbers."""
    path, split = Path(source["path"]), source.get("options", {}).get("split")
    if source["kind"] == FolderDataset.kind:
        return str(path if split is None else split_folder(path, split))
    return str(path.parent) if source["kind"] == ManifestDataset.kind else None
