"""One's own models: `package.module:factory`, imported and called."""

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from .errors import ModelError

FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_factory(spec: str) -> bool:
    """Return whether a model is given as `package.module:factory`."""
    return FACTORY.fullmatch(spec) is not None and not spec.startswith("hf_hub:")


def call_factory(spec: str, folder: str) -> nn.Module:
    """Import `package.module:factory`, also from a folder, and return the module it makes.

    Raises:
        ModelError: nothing to import or call, an error inside, or a result that is no module.
    """
    module_name, _, attribute = spec.partition(":")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    target = _import(module_name, spec, folder)
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ModelError(f"{spec}: {module_name} has no {attribute!r}")
        target = getattr(target, part)
    if not callable(target) or isinstance(target, nn.Module):
        raise ModelError(f"{spec} is no function: give one that returns a model")
    _require_no_arguments(spec, target)
    with _foreign_code(spec):
        model = target()
    if not isinstance(model, nn.Module):
        raise ModelError(f"{spec} returns a {type(model).__name__}, not a torch.nn.Module")
    return model


def _import(module_name: str, spec: str, folder: str) -> Any:
    with _foreign_code(spec):
        try:
            return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # one that the module asks for
            raise ModelError(
                f"{spec}: no module named {error.name!r} in {folder}, nor is one installed"
            ) from error


@contextmanager
def _foreign_code(spec: str) -> Iterator[None]:
    """Report any error of the user's own module in one line, with the place it came from."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        # Where the importer itself stops, as at a syntax error, the message has the place.
        place = "" if frame.filename.startswith("<") else f" ({frame.filename}:{frame.lineno})"
        raise ModelError(f"{spec} fails with {type(error).__name__}: {error}{place}") from error


def _require_no_arguments(spec: str, factory: Any) -> None:
    required = [
        name
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if required:
        raise ModelError(
            f"{spec} must be callable without arguments, it asks for {', '.join(required)}"
        )
