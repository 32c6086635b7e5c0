"""Weights as files: reading checkpoints safely, the digest that identifies them, saving."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from timm.models import load_state_dict

from .durability import replace_path
from .errors import ModelError

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
WRAPPERS = ("module.", "model.", "net.", "backbone.")
"""Prefixes that training frameworks put before every name of a state dictionary."""


def weights_digest(model: torch.nn.Module) -> str:
    """Return the SHA-256 over the state dictionary: names in order, dtypes, shapes and bytes."""
    return state_digest(model.state_dict())


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the digest of a model with this state dictionary."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        header = f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0"
        digest.update(header.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Return the state dictionary of a safetensors file or a pickle of tensors.

    Pickles are read with weights only, so they cannot run code. The wrappers that timm and common
    training loops write (`state_dict`, `model`, averaged weights first) are taken off.

    Raises:
        ModelError: no such file, or no state dictionary in it.
    """
    if not path.is_file():
        raise ModelError(f"no such checkpoint: {path}")
    try:
        state = load_state_dict(str(path), device="cpu", weights_only=True)
    except (
        *(RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, OSError),
        *(pickle.UnpicklingError, SafetensorError),
    ) as error:
        reason = _first_line(error)
        if "weights_only" in reason:  # an option that a user of this package does not have
            reason = "it pickles more than tensors, which could run code; save model.state_dict()"
        raise ModelError(f"{path} cannot be read as a checkpoint of tensors: {reason}") from error
    state = dict(state)
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors or len(tensors) < len(state):
        raise ModelError(f"{path} holds no state dictionary: save model.state_dict() alone")
    return tensors


def strip_wrapper(
    state: Mapping[str, torch.Tensor], expected: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """Take a common prefix off all names, where that makes them fit the model's names better."""
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in state):
            stripped = {name.removeprefix(prefix): value for name, value in state.items()}
            if len(stripped.keys() & expected.keys()) > len(state.keys() & expected.keys()):
                return stripped
    return dict(state)


def load_weights(model: torch.nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Load a state dictionary strictly.

    Raises:
        ModelError: names or shapes differ; names the first of each kind.
    """
    expected = model.state_dict()
    state = strip_wrapper(state, expected)
    problems = []
    for kind, names in (
        ("missing", expected.keys() - state.keys()),
        ("unexpected", state.keys() - expected.keys()),
        (
            "of another shape",
            {n for n in expected.keys() & state.keys() if _differ(expected, state, n)},
        ),
    ):
        if names:
            first = min(names)
            shapes = ""
            if kind == "of another shape":
                shapes = f" {tuple(state[first].shape)} for {tuple(expected[first].shape)}"
            problems.append(
                f"{len(names)} {kind} ({first}{shapes}{', …' if len(names) > 1 else ''})"
            )
    if problems:
        raise ModelError(f"{source} does not fit the model: {'; '.join(problems)}")
    model.load_state_dict(state)


def save_weights(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a state dictionary as safetensors, whole or not at all.

    Tensors that share memory are written apart.
    """
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with replace_path(path) as partial:
        save_file(plain, partial)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the `config.json` of a timm model folder.

    Raises:
        ModelError: there is none, or it is no timm config.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ModelError(f"{folder} is no timm model folder: it has no config.json")
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(config, dict) or "architecture" not in config:
        raise ModelError(f"{path} is no timm config: it names no architecture")
    return config


def _differ(expected: Mapping[str, Any], state: Mapping[str, Any], name: str) -> bool:
    return expected[name].shape != state[name].shape


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
