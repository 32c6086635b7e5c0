"""One's own models: `package.module:factory`, imported and called."""

import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import ModuleType
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
    with _searched_first(folder), _foreign_code(spec):
        module = _import(module_name, spec, folder)
        _require_from(folder, module, spec)
        factory = _find(module, attribute, spec)
        _require_no_arguments(spec, factory)
        model = factory()
    if not isinstance(model, nn.Module):
        raise ModelError(f"{spec} returns {type(model).__name__}, not a torch.nn.Module")
    return model


@contextmanager
def _searched_first(folder: str) -> Iterator[None]:
    """Look for modules in a folder before anywhere else, and on leaving after everywhere else.

    What a model imports as late as in its forward pass is still found then, while nothing in the
    folder takes the place of what others import.
    """
    before = folder in sys.path
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if not before:
            sys.path.append(folder)


def _import(module_name: str, spec: str, folder: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # one that the module asks for
        raise ModelError(
            f"{spec}: no module named {error.name!r} in {folder}, nor is one installed"
        ) from error


def _require_from(folder: str, module: ModuleType, spec: str) -> None:
    """Refuse a module of the same name that this process had imported from somewhere else."""
    places, found = [folder], None
    names = module.__name__.split(".")
    for depth in range(1, len(names) + 1):
        found = PathFinder.find_spec(".".join(names[:depth]), places)
        if found is None:
            return  # an installed one: the folder has none
        places = list(found.submodule_search_locations or ())
    expected = found and found.origin
    loaded = getattr(module, "__file__", None)
    if expected and (loaded is None or os.path.realpath(loaded) != os.path.realpath(expected)):
        raise ModelError(
            f"{spec}: {module.__name__} is imported from {loaded or 'Python itself'} already, so "
            f"{expected} cannot be: open the two in processes of their own, or rename one"
        )


def _find(module: ModuleType, attribute: str, spec: str) -> Any:
    target: Any = module
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ModelError(f"{spec}: {module.__name__} has no {attribute!r}")
        target = getattr(target, part)
    if not callable(target) or isinstance(target, nn.Module):
        raise ModelError(f"{spec} is no function: give one that returns a model")
    return target


@contextmanager
def _foreign_code(spec: str) -> Iterator[None]:
    """Report any error of the user's own module in one line, with the place it came from."""
    try:
        yield
    except ModelError:
        raise
    except SystemExit as error:
        raise ModelError(
            f"{spec} ends the program where it should make a model: guard what "
            f"{spec.partition(':')[0]} does as a script with if __name__ == '__main__'"
        ) from error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        # Where the importer itself stops, as at a syntax error, the message has the place.
        place = "" if frame.filename.startswith("<") else f" ({frame.filename}:{frame.lineno})"
        raise ModelError(f"{spec} fails with {type(error).__name__}: {error}{place}") from error


def _require_no_arguments(spec: str, factory: Any) -> None:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return  # compiled code often has none: the call will show
    required = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if required:
        raise ModelError(
            f"{spec} must be callable without arguments, it asks for {', '.join(required)}"
        )
