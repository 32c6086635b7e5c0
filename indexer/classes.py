"""Which output of the model each class of the data stands for.

Vocabulary: the model has C outputs; the data has its own labels, with or without names. Names
are compared without regard to case, spaces, underscores and hyphens, where that is unambiguous.
"""

import csv
import difflib
import io
import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .datasets import ImageDataset, Row
from .errors import ClassMapError, RejectedImageError

LISTED_NAMES = 12
"""Names of each side that an error message shows."""


@dataclass(frozen=True)
class ClassMap:
    """From the data's labels to the model's outputs.

    Attributes:
        names: C names, by model output.
        outputs: model output by data label; None for a class that the model does not know, whose
            rows are rejected. An empty mapping sends every label to the output of that number.
    """

    names: tuple[str, ...]
    outputs: Mapping[int, int | None] = field(default_factory=dict)

    def target(self, row: Row) -> int:
        """Return the model output that is right for a row.

        Raises:
            RejectedImageError: the row has no label, or one outside the model's classes.
        """
        if row.label is None:
            raise RejectedImageError(row.error or "no label")
        if not self.outputs:
            if row.label < len(self.names):
                return row.label
            raise RejectedImageError(
                f"label {row.label} is out of range: the model has {len(self.names)} classes "
                f"(0 to {len(self.names) - 1})"
            )
        output = self.outputs.get(row.label)
        if output is None:
            raise RejectedImageError(self._unknown(row))
        return output

    def _unknown(self, row: Row) -> str:
        name = row.label_name if row.label_name is not None else str(row.label)
        close = difflib.get_close_matches(name, self.names, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        return f"label {name!r} is not a class of the model{hint}"

    def output_of(self, name: str) -> int:
        """Return the model output with this name or number; raises ClassMapError."""
        found = _Names(self.names).find(name)
        if found is None and name.isdecimal() and int(name) < len(self.names):
            found = int(name)
        if found is None:
            close = difflib.get_close_matches(name, self.names, n=3) or self.names
            raise ClassMapError(f"no class {name!r}: the model has {_listing(close)}")
        return found


class _Names:
    """Lookup of names: as they are first, then normalized where that is unambiguous."""

    def __init__(self, names: Sequence[str], aliases: Sequence[Sequence[str]] = ()) -> None:
        self._exact: dict[str, int] = {}
        self._loose: dict[str, int | None] = {}
        for group in (names, *aliases):
            for output, name in enumerate(group):
                self._exact.setdefault(name, output)
                key = normalize(name)
                known = self._loose.setdefault(key, output)
                if known != output:
                    self._loose[key] = None

    def find(self, name: str) -> int | None:
        if name in self._exact:
            return self._exact[name]
        return self._loose.get(normalize(name))


def normalize(name: str) -> str:
    """Return a class name without case, spaces, underscores and hyphens."""
    return re.sub(r"[\s_\-]+", "", name).casefold()


def match_classes(
    dataset: ImageDataset,
    *,
    num_classes: int,
    model_names: Sequence[str] | None = None,
    aliases: Sequence[Sequence[str]] = (),
    overrides: Mapping[str, str] | None = None,
) -> ClassMap:
    """Match the classes of a data set to the outputs of a model.

    By name where both sides have names: the data may hold a subset of the model's classes. A name
    that the model lacks is an error where it is a class of the data set (a folder, a declared
    list); where labels are free text, it rejects its rows, as long as most names are known.
    Without names on one side, by order where the numbers of classes agree. Integer labels are
    output numbers, unless all names of the model are numbers themselves.

    Args:
        dataset: the data.
        num_classes: C, outputs of the model.
        model_names: names of the outputs, where the model has them.
        aliases: further lists of C names under which data may know the same outputs.
        overrides: model class by data class, from `read_class_map`; the model's by name or
            number, "" for a class to leave out.

    Raises:
        ClassMapError: the two sides do not fit; shows both lists and the way out.
    """
    names, overrides = dataset.class_names, dict(overrides or {})
    if names is None:
        return _match_integers(dataset, num_classes, model_names, overrides)
    if model_names is None:
        fixed = _resolve_overrides(overrides, names, [str(i) for i in range(num_classes)])
        return _match_by_order(dataset, names, num_classes, fixed)
    fixed = _resolve_overrides(overrides, names, model_names, aliases)
    lookup = _Names(model_names, aliases)
    outputs = {
        label: fixed[label] if label in fixed else lookup.find(name)
        for label, name in enumerate(names)
    }
    used = dataset.used_labels - fixed.keys()
    unknown = [names[label] for label in sorted(used) if outputs[label] is None]
    tolerated = not dataset.declares_classes and 2 * len(unknown) <= len(used)
    if unknown and not tolerated:
        whole = "it" if unknown == list(names) else f"the data has {_listing(names)}, the model"
        raise ClassMapError(
            f"the model has no class {_listing(unknown)}: {whole} has {_listing(model_names)}; "
            f"map them with {_advice(unknown[0], 'NAME')} or leave them out with "
            f"{_advice(unknown[0], '')}"
        )
    _refuse_collisions(outputs, names, model_names, fixed)
    return ClassMap(tuple(model_names), outputs)


def _match_by_order(
    dataset: ImageDataset, names: Sequence[str], num_classes: int, fixed: Mapping[int, int | None]
) -> ClassMap:
    """Match named data to a model without names."""
    if not dataset.used_labels <= fixed.keys() and len(names) != num_classes:
        raise ClassMapError(
            f"the data has {len(names)} classes ({_listing(names)}) and the model has "
            f"{num_classes} without names: name them with {_advice(names[0], 'NUMBER')}"
        )
    if not fixed:
        return ClassMap(tuple(names), {label: label for label in range(num_classes)})
    outputs = {label: fixed.get(label, label) for label in range(len(names))}
    known = {output: names[label] for label, output in outputs.items() if output is not None}
    return ClassMap(tuple(known.get(i, str(i)) for i in range(num_classes)), outputs)


def _match_integers(
    dataset: ImageDataset,
    num_classes: int,
    model_names: Sequence[str] | None,
    overrides: Mapping[str, str],
) -> ClassMap:
    """Match bare integers to outputs, by name where all the model's names are integers."""
    names = tuple(model_names or (str(i) for i in range(num_classes)))
    used = sorted(dataset.used_labels)
    if overrides:
        texts = [str(label) for label in range(max(used, default=0) + 1)]
        fixed = _resolve_overrides(overrides, texts, names)
        inside = {label: label for label in range(num_classes)}
        return ClassMap(names, {**inside, **fixed})
    if all(name.isdecimal() for name in names):
        by_number = {int(name): output for output, name in enumerate(names)}
        if len(by_number) == num_classes:
            outputs = {label: by_number.get(label) for label in used}
            if any(output is not None for output in outputs.values()):
                return ClassMap(names, outputs)
    if used and used[0] >= num_classes:
        raise ClassMapError(
            f"the labels run from {used[0]} to {used[-1]} and the model has {num_classes} classes: "
            "map them with --class-map LABEL=NUMBER"
        )
    return ClassMap(names)


def _resolve_overrides(
    overrides: Mapping[str, str],
    data_names: Sequence[str],
    model_names: Sequence[str],
    aliases: Sequence[Sequence[str]] = (),
) -> dict[int, int | None]:
    data, model = _Names(data_names), _Names(model_names, aliases)
    fixed: dict[int, int | None] = {}
    for source, target in overrides.items():
        label = data.find(source)
        if label is None:
            raise ClassMapError(
                f"--class-map: the data has no class {source!r}, it has {_listing(data_names)}"
            )
        output = model.find(target) if target else None
        if output is None and target.isdecimal() and int(target) < len(model_names):
            output = int(target)
        if output is None and target:
            raise ClassMapError(
                f"--class-map: the model has no class {target!r}, it has {_listing(model_names)}"
            )
        fixed[label] = output
    return fixed


def _refuse_collisions(
    outputs: Mapping[int, int | None],
    data_names: Sequence[str],
    model_names: Sequence[str],
    fixed: Mapping[int, int | None],
) -> None:
    """Two classes of the data may share an output only where the user said so."""
    taken: dict[int, int] = {}
    for label, output in outputs.items():
        if output is None or label in fixed:
            continue
        other = taken.setdefault(output, label)
        if other != label:
            raise ClassMapError(
                f"{data_names[other]!r} and {data_names[label]!r} of the data both match "
                f"{model_names[output]!r} of the model: tell them apart with --class-map"
            )


def read_class_map(items: Sequence[str]) -> dict[str, str]:
    """Read `--class-map`: a JSON or CSV file, or pairs `data=model`.

    A JSON file holds one object; a CSV file two columns, data and model, with or without that
    header. A model class may be given by name or by number; an empty one leaves the class out.

    Raises:
        ClassMapError: a file that cannot be read so, or an item that is no pair.
    """
    pairs: dict[str, str] = {}
    for item in items:
        path = Path(item)
        if path.suffix.lower() in (".json", ".csv"):
            found = _read_file(path)
        else:
            source, separator, target = item.rpartition("=")
            if not separator or not source.strip():
                raise ClassMapError(
                    f"--class-map {item!r}: give DATA=MODEL, or a .json or .csv file"
                )
            found = [(source, target)]
        for source, target in found:
            key, value = source.strip(), target.strip()
            if pairs.setdefault(key, value) != value:
                raise ClassMapError(f"--class-map maps {key!r} to {pairs[key]!r} and to {value!r}")
    return pairs


def _read_file(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".json":
            document = json.loads(text)
            if not isinstance(document, dict):
                raise ClassMapError(f"{path}: expected one JSON object of data and model classes")
            return [(str(k), "" if v is None else str(v)) for k, v in document.items()]
        rows = [row for row in csv.reader(io.StringIO(text)) if any(map(str.strip, row))]
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ClassMapError(f"--class-map {path} cannot be read: {reason}") from error
    wrong = next((row for row in rows if len(row) != 2), None)
    if wrong is not None:
        raise ClassMapError(f"{path}: expected two columns, data and model, found {wrong}")
    if rows and [cell.strip().lower() for cell in rows[0]] == ["data", "model"]:
        rows = rows[1:]
    return [(row[0], row[1]) for row in rows]


def _advice(name: str, target: str) -> str:
    """Return the option for one class as a shell takes it, whatever its name holds."""
    return f"--class-map {shlex.quote(f'{name}={target}')}"


def _listing(names: Collection[str]) -> str:
    shown = ", ".join(repr(name) for name in list(names)[:LISTED_NAMES])
    rest = len(names) - LISTED_NAMES
    return shown if rest <= 0 else f"{shown} and {rest} more"
