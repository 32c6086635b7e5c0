"""Loading a classifier: timm names, hub and local folders, checkpoints, and one's own modules."""

import difflib
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from timm.models import get_pretrained_cfg, is_model
from timm.models._hub import save_config_for_hf
from torch import nn

from .class_names import model_class_names
from .durability import disk_errors, explain, replace_path
from .errors import ModelError, StoreError
from .factories import call_factory, is_factory
from .hub import hub_access
from .transforms import (
    Transform,
    TransformOverrides,
    build_transform,
    transform_config,
    unstated,
)
from .weights import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    load_weights,
    read_checkpoint,
    read_config,
    save_weights,
    strip_wrapper,
    weights_digest,
)

__all__ = [
    "LoadedModel",
    "SavedModel",
    "load_model",
    "save_timm_directory",
    "weights_digest",
]

LOCAL = "local-dir:"
HUB = "hf-hub:"


@dataclass(frozen=True)
class LoadedModel:
    """A classifier that is ready to be indexed.

    Attributes:
        model: the module in eval mode; [B, I, H, W] to logits [B, C].
        transform: RGB image to float32 tensor [I, H, W].
        transform_config: JSON-ready description of the transform.
        class_names: C names by output, None where the model has none.
        class_aliases: further lists of C names, for example ImageNet's synsets.
        num_classes: C.
        spec: what loads the model again, with absolute paths.
        checkpoint: absolute path of the weights, None where the spec brings them.
        architecture: timm name of the architecture, or the factory.
        digest: SHA-256 of the weights.
        folder: folder from which a factory was imported, None for timm models.
        assumed: values of the transform that are timm's defaults, see `transforms.unstated`.
    """

    model: nn.Module
    transform: Transform
    transform_config: dict[str, Any]
    class_names: tuple[str, ...] | None
    class_aliases: tuple[tuple[str, ...], ...]
    num_classes: int
    spec: str
    checkpoint: str | None
    architecture: str
    digest: str
    folder: str | None = None
    assumed: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Return the JSON-ready `model` entry of a manifest."""
        return {
            "spec": self.spec,
            "checkpoint": self.checkpoint,
            "architecture": self.architecture,
            "weights_digest": self.digest,
            "folder": self.folder,
        }


@dataclass(frozen=True)
class SavedModel:
    """Where a model was saved, as the two values that load it again."""

    spec: str
    checkpoint: str | None


def load_model(
    spec: str,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    num_classes: int | None = None,
    device: str | torch.device = "cpu",
    overrides: TransformOverrides | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> LoadedModel:
    """Load a classifier, put it in eval mode and find its transform and class names.

    Args:
        spec: timm name, `hf-hub:OWNER/NAME`, `local-dir:FOLDER`, or `package.module:factory` for
            a callable without arguments that returns an `nn.Module`.
        checkpoint: weights to load, safetensors or a pickle of tensors.
        num_classes: number of outputs that the model must have.
        device: where the model goes.
        overrides: changes to the model's own transform.
        folder: where to look for the factory's module; the current folder by default.

    Raises:
        ModelError: in one line, what cannot be loaded and what to do.
    """
    state = None if checkpoint is None else read_checkpoint(Path(checkpoint))
    overrides = overrides or TransformOverrides()
    if is_factory(spec):
        import_folder = os.path.abspath(folder or os.getcwd())
        model, architecture = call_factory(spec, import_folder), spec
    else:
        import_folder = None
        spec = _absolute_spec(spec)
        model = _create_timm(spec, state, overrides)
        architecture = _architecture(model, spec)
    if state is not None:
        load_weights(model, state, str(checkpoint))
    model = model.eval().to(device)
    if not is_factory(spec):
        # As convolutions read their weights; one's own module may count on the usual order.
        model = model.to(memory_format=torch.channels_last)
    config = transform_config(model, _input_channels(model), overrides)
    outputs = _probe(model, config["input_size"], spec)
    if num_classes is not None and outputs != num_classes:
        raise ModelError(f"{spec} has {outputs} classes, {num_classes} are expected")
    names, aliases = model_class_names(model, outputs)
    return LoadedModel(
        model=model,
        transform=build_transform(config),
        transform_config=config,
        class_names=names,
        class_aliases=aliases,
        num_classes=outputs,
        spec=spec,
        checkpoint=None if checkpoint is None else os.path.abspath(checkpoint),
        architecture=architecture,
        digest=weights_digest(model),
        folder=import_folder,
        assumed=unstated(model, overrides),
    )


def save_timm_directory(
    model_or_state: nn.Module | Mapping[str, torch.Tensor],
    loaded: LoadedModel,
    path: str | os.PathLike[str],
) -> SavedModel:
    """Save weights so that `load_model` (and timm) read them again.

    A timm model becomes a `local-dir:` folder with config and class names; the weights of a
    factory's module become a safetensors checkpoint for the same factory.

    Args:
        model_or_state: a module like `loaded.model`, or its state dictionary.
        loaded: the model that the weights belong to.
        path: folder to write into; made where it does not exist.

    Raises:
        StoreError: the folder cannot be made, or the files not be written.
    """
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Module) else model_or_state
    folder = Path(path).absolute()
    try:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            return _save(state, loaded, folder)
    except SafetensorError as error:
        raise StoreError(f"cannot write to {folder}: {explain(error)}") from error


def _save(state: Mapping[str, torch.Tensor], loaded: LoadedModel, folder: Path) -> SavedModel:
    if loaded.folder is not None:
        save_weights(state, folder / WEIGHTS_FILE)
        return SavedModel(loaded.spec, str(folder / WEIGHTS_FILE))
    described: dict[str, Any] = {"pretrained_cfg": dict(loaded.transform_config)}
    if loaded.class_names is not None:
        described["label_names"] = list(loaded.class_names)
    save_weights(state, folder / WEIGHTS_FILE)
    with replace_path(folder / CONFIG_FILE) as partial:
        save_config_for_hf(loaded.model, str(partial), model_config=described)
    return SavedModel(f"{LOCAL}{folder}", None)


def _absolute_spec(spec: str) -> str:
    if not spec.startswith(LOCAL):
        return spec
    folder = Path(spec.removeprefix(LOCAL))
    if not folder.is_dir():
        raise ModelError(
            f"no such model folder: {folder}; `failsearch relocate --model` tells an index where "
            "its model is now"
        )
    read_config(folder)
    return f"{LOCAL}{folder.absolute()}"


def _create_timm(
    spec: str, state: Mapping[str, torch.Tensor] | None, overrides: TransformOverrides
) -> nn.Module:
    """Create a timm model, with pretrained weights unless a checkpoint follows."""
    arguments: dict[str, Any] = {}
    if ":" not in spec:
        _require_known_name(spec)
        pretrained = _pretrained_cfg(spec)
        if state is not None:
            arguments = _arguments_from_weights(pretrained, state)
        if overrides.input_size is not None and getattr(pretrained, "fixed_input_size", False):
            arguments["img_size"] = overrides.input_size
    asks_hub = spec.startswith(HUB) or (state is None and not spec.startswith(LOCAL))
    try:
        with hub_access(True) if asks_hub else nullcontext():
            return timm.create_model(spec, pretrained=state is None, **arguments)
    except ImportError as error:
        raise ModelError(f"{spec} needs a package that is not installed: {error}") from error
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError, OSError) as error:
        raise ModelError(_explain(spec, error)) from error


def _require_known_name(spec: str) -> None:
    name = spec.partition(".")[0]
    separated = "/" in spec or "\\" in spec
    if is_model(name) and not separated:
        return
    if Path(spec).is_file():
        raise ModelError(
            f"model {spec!r} is a file: give its architecture with --model and it with --checkpoint"
        )
    if separated or Path(spec).is_dir():
        raise ModelError(
            f"model {spec!r}: write {LOCAL}{spec} for a folder or {HUB}{spec} for the hub"
        )
    close = difflib.get_close_matches(name, timm.list_models(), n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "see timm.list_models()"
    raise ModelError(f"timm knows no model {name!r}: {hint}")


def _pretrained_cfg(spec: str) -> Any:
    try:
        return get_pretrained_cfg(spec, allow_unregistered=True)
    except RuntimeError as error:
        known = ", ".join(timm.list_pretrained(spec.partition(".")[0])) or "none"
        raise ModelError(f"timm has no weights {spec!r}: it has {known}") from error


def _arguments_from_weights(pretrained: Any, state: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Read the number of classes and input channels off a checkpoint's first and last weight."""
    arguments: dict[str, int] = {}
    names = (
        (getattr(pretrained, "classifier", None), 0),
        (getattr(pretrained, "first_conv", None), 1),
    )
    for (name, axis), argument in zip(names, ("num_classes", "in_chans"), strict=True):
        if isinstance(name, str):
            weight = strip_wrapper(state, {f"{name}.weight": None}).get(f"{name}.weight")
            if weight is not None and weight.ndim > axis:
                arguments[argument] = weight.shape[axis]
    return arguments


def _explain(spec: str, error: Exception) -> str:
    """Return one line for an error of timm or of the hub."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "No pretrained weights exist" in text:
        return f"timm has no weights for {spec}: give them with --checkpoint"
    if isinstance(error, (LocalEntryNotFoundError, ConnectionError, URLError)):
        return (
            f"the weights of {spec} are not on this machine and the hub cannot be reached: "
            f"give --checkpoint FILE or {LOCAL}FOLDER"
        )
    return f"{spec} cannot be loaded: {text[:300]}"


def _architecture(model: nn.Module, spec: str) -> str:
    config = getattr(model, "pretrained_cfg", None)
    name = config.get("architecture") if isinstance(config, Mapping) else None
    return name or spec


def _input_channels(model: nn.Module) -> int:
    """Return the number of input channels: the stem's, else the config's, else 3."""
    config: Any = getattr(model, "pretrained_cfg", None)
    config = config if isinstance(config, Mapping) else {}
    modules = dict(model.named_modules())
    stem = config.get("first_conv")
    stem = modules.get(stem) if isinstance(stem, str) else None
    if config.get("input_size") is None:
        stem = next((m for m in modules.values() if isinstance(m, nn.Conv2d)), None)
    channels = config["input_size"][0] if config.get("input_size") else 3
    if isinstance(stem, nn.Conv2d):
        channels = stem.in_channels
    if channels not in (1, 3):
        raise ModelError(f"the model takes images of {channels} channels, not of 1 or 3")
    return channels


def _probe(model: nn.Module, input_size: Sequence[int], spec: str) -> int:
    """Return C, from the logits of one black image."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with torch.inference_mode():
            logits = model(torch.zeros(1, *input_size, device=device))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{spec} does not take an image of {' × '.join(map(str, input_size))} "
            f"(set another with --input-size): {text}"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or logits.shape[0] != 1:
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(f"{spec} is no classifier: one image gives {shape}, not logits (1, C)")
    if logits.shape[1] < 2:
        raise ModelError(f"{spec} has {logits.shape[1]} output: a classifier has two or more")
    return logits.shape[1]
