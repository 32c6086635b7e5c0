"""The failures as a data set for FiftyOne, which need not be installed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.durability import disk_errors, replace_file

from ..export import ReadImage, safe_name, save_image
from ..listing import list_samples
from ..results import plain
from .exchange import mode_names

if TYPE_CHECKING:
    from indexer.store import Store


def export_fiftyone(store: "Store", folder: Path, read_image: ReadImage) -> int:
    """Write the failures in FiftyOne's image classification format, the worst first.

    The folder gets `data/` with the images and three files of targets for them: `labels.json`
    with the id of each sample, `predictions.json` with confidence, loss and margin and, where the
    index has modes, `modes.json`. FiftyOne reads each with
    `dataset_type=fiftyone.types.FiftyOneImageClassificationDataset`: the first with
    `Dataset.from_dir(dataset_dir=…)`, the others with
    `dataset.merge_dir(dataset_dir=…, labels_path="predictions.json", label_field="prediction")`.

    Args:
        store: the index.
        folder: is made; files of the same names are replaced.
        read_image: gives the image of a sample.

    Returns:
        the number of failures.

    Raises:
        StoreError: a file cannot be written.
    """
    failures = list_samples(store)
    names = {sample.id: safe_name(sample.id) for sample in failures}
    mode_of = mode_names(store)
    with disk_errors(folder):
        for sample in failures:
            save_image(read_image(sample), folder / "data", names[sample.id])
        classes = store.manifest.classes
        labels = {names[s.id]: _target(s.label, sample=s.id) for s in failures}
        _write(folder / "labels.json", classes, labels)
        predictions = {
            names[s.id]: _target(s.prediction, s.confidence, loss=s.loss, margin=s.margin)
            for s in failures
        }
        _write(folder / "predictions.json", classes, predictions)
        if mode_of:
            modes = tuple(dict.fromkeys(mode_of.values()))
            number = {mode: position for position, mode in enumerate(modes)}
            targets = {name: number.get(mode_of.get(sample, "")) for sample, name in names.items()}
            _write(folder / "modes.json", modes, targets)
    return len(failures)


def _target(label: int, confidence: float | None = None, **attributes: Any) -> dict[str, Any]:
    """Return a class number with what FiftyOne shows beside it."""
    return plain({"label": label, "confidence": confidence, "attributes": attributes})


def _write(path: Path, classes: Sequence[str], targets: Mapping[str, Any]) -> None:
    """Write targets by image name without suffix; None is no label."""
    document = {"classes": list(classes), "labels": targets}
    with replace_file(path) as file:
        file.write(json.dumps(document, indent=1, allow_nan=False).encode())
