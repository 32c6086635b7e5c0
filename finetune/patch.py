"""A repair as a small file: the changed rows of weights, and what they were made for.

A patch is a safetensors file with three tensors for each changed parameter, `NAME.rows` (int64
[n]), `NAME.before` and `NAME.after` ([n, ...]), and a JSON document under the metadata key
`failsearch`: digests of the weights on both sides, the filters, settings and figures. Going back
writes the stored rows, so that apply then revert is bit for bit what it was.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from indexer.durability import replace_file
from indexer.errors import ModelError, SettingError
from indexer.patched import PATCH_KEY
from indexer.store import Store
from indexer.weights import WEIGHTS_FILE, state_digest

from .edits import Edit, RowEdit

PATCH_VERSION = 1


@dataclass(frozen=True)
class Patch:
    """Changed rows and what they belong to.

    Attributes:
        edit: rows before and after.
        base_digest: digest of the weights the patch was made for.
        patched_digest: digest of the weights after it.
        details: filters, settings and figures; JSON-ready.
    """

    edit: Edit
    base_digest: str
    patched_digest: str
    details: Mapping[str, Any]


def make_patch(edit: Edit, state: Mapping[str, Tensor], details: Mapping[str, Any]) -> Patch:
    """Return the patch of an edit.

    Args:
        edit: changed rows.
        state: state dictionary of the weights before the edit.
        details: JSON-ready description of the repair.
    """
    return Patch(edit, state_digest(state), state_digest(_edited(state, edit, "after")), details)


def sources_of(store: Store) -> list[str]:
    """Return the fingerprints of an index's data sets, in the order they came."""
    return [source["fingerprint"] for source in store.manifest.sources]


def write_patch(patch: Patch, path: str | Path) -> None:
    """Write a patch file, whole or not at all."""
    tensors = {}
    for entry in patch.edit.rows:
        tensors[f"{entry.parameter}.rows"] = entry.rows
        tensors[f"{entry.parameter}.before"] = entry.before.contiguous()
        tensors[f"{entry.parameter}.after"] = entry.after.contiguous()
    document = {
        "version": PATCH_VERSION,
        "base_digest": patch.base_digest,
        "patched_digest": patch.patched_digest,
        "details": dict(patch.details),
    }
    _save(tensors, Path(path), {PATCH_KEY: json.dumps(document)})


def read_patch(path: str | Path) -> Patch:
    """Read a patch file.

    Raises:
        ModelError: there is none, or it is no patch that this version reads.
    """
    metadata, tensors = _load(Path(path))
    if PATCH_KEY not in metadata:
        raise ModelError(f"{path} is no failsearch patch: `failsearch repair` writes them")
    try:
        document = json.loads(metadata[PATCH_KEY])
        if document["version"] > PATCH_VERSION:
            raise ModelError(f"patch {path} was written by a newer failsearch: upgrade failsearch")
        names = [key.removesuffix(".rows") for key in tensors if key.endswith(".rows")]
        rows = tuple(
            RowEdit(n, *(tensors[f"{n}.{part}"] for part in ("rows", "before", "after")))
            for n in sorted(names)
        )
        return Patch(
            Edit(rows), document["base_digest"], document["patched_digest"], document["details"]
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is no whole failsearch patch: {error!r}") from error


def apply_patch(patch: Patch, weights: str | Path, output: str | Path | None = None) -> Path:
    """Write the patched weights of a timm directory or safetensors checkpoint.

    Args:
        patch: what to apply.
        weights: the directory or file.
        output: file to write instead of changing `weights` in place.

    Returns:
        The file that was written.

    Raises:
        ModelError: the weights are not those that the patch was made for.
        SettingError: `output` is a patch, which would be lost.
    """
    return _rewrite(patch, weights, output, "after", patch.base_digest, patch.patched_digest)


def revert_patch(patch: Patch, weights: str | Path, output: str | Path | None = None) -> Path:
    """Undo `apply_patch`, bit for bit; arguments and errors are the same."""
    return _rewrite(patch, weights, output, "before", patch.patched_digest, patch.base_digest)


def _rewrite(
    patch: Patch,
    weights: str | Path,
    output: str | Path | None,
    side: str,
    expected: str,
    promised: str,
) -> Path:
    path = weights_file(weights)
    metadata, state = _load(path)
    found = state_digest(state)
    if found == promised:
        done = "applied already" if side == "after" else "not applied"
        raise ModelError(f"{path}: the patch is {done}, there is nothing to do")
    if found != expected:
        raise ModelError(
            f"{path} has other weights (digest {found[:12]}…) than the patch was made for "
            f"({expected[:12]}…): apply it to the model that was indexed"
        )
    edited = _edited(state, patch.edit, side)
    if state_digest(edited) != promised:
        raise ModelError(f"the patch does not give the weights that it names: {path} is unchanged")
    target = path if output is None else Path(output)
    if target != path and _is_patch(target):
        raise SettingError(f"{target} is a patch: write the weights to another file")
    _save(edited, target, metadata)
    return target


def _is_patch(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return PATCH_KEY in (file.metadata() or {})
    except (OSError, SafetensorError):  # nothing there, or something else
        return False


def weights_file(path: str | Path) -> Path:
    """Return the safetensors file of a timm directory, or the file itself.

    Raises:
        ModelError: there is none, or it is another kind of file.
    """
    given = Path(path)
    found = given / WEIGHTS_FILE if given.is_dir() else given
    if not found.is_file():
        raise ModelError(f"no weights at {found}")
    if found.suffix != ".safetensors":
        raise ModelError(f"{found}: a patch works on safetensors files, convert the checkpoint")
    return found


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a timm directory or safetensors checkpoint."""
    return _load(weights_file(path))[1]


def _edited(state: Mapping[str, Tensor], edit: Edit, side: str) -> dict[str, Tensor]:
    """Return the state with one side of the rows written in; other tensors are shared."""
    edited = dict(state)
    for entry in edit.rows:
        weight = state.get(entry.parameter)
        values: Tensor = getattr(entry, side)
        if weight is None or weight.shape[1:] != values.shape[1:]:
            raise ModelError(f"the weights have no {entry.parameter} of the patch's shape")
        changed = weight.detach().cpu().clone(memory_format=torch.contiguous_format)
        changed[entry.rows] = values.to(changed.dtype)
        edited[entry.parameter] = changed
    return edited


def _load(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise ModelError(f"no such file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is not readable as safetensors: {error}") from error


def _save(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    with replace_file(path) as file:
        file.write(save(contiguous, metadata or None))
