"""What a caller of `Index` may give: checked, and brought to the one form that is passed on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa

from indexer.errors import SettingError
from search.results import Sample

if TYPE_CHECKING:
    from PIL import Image

_NUMBERS = {int: (int, np.integer), float: (int, float, np.integer, np.floating)}
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    NoneType: "None",
}


def ids_of(samples: str | Sample | Iterable[str | Sample], name: str = "samples") -> list[str]:
    """Return the ids of one sample or several, each given as its id or as a `Sample`.

    Raises:
        SettingError: something else was given.
    """
    given: Any = samples
    if isinstance(given, str) or not isinstance(given, Iterable):
        given = [given]
    ids = []
    for item in given:
        value = item.as_py() if isinstance(item, pa.Scalar) else item
        if not isinstance(value, str | Sample):
            raise SettingError(f"{name} takes ids or samples, one or several, not {item!r}")
        ids.append(value.id if isinstance(value, Sample) else str(value))
    return ids


def picture_of(image: Path | str | Image.Image | np.ndarray) -> Path | Image.Image:
    """Return an image as a path or picture; an array must be uint8 [height, width, 3].

    Raises:
        SettingError: something else was given.
    """
    from PIL import Image

    if isinstance(image, np.ndarray):
        given = f"{image.dtype} {list(image.shape)}"
        if image.size and image.dtype == np.uint8 and image.shape[2:] == (3,):
            return Image.fromarray(np.ascontiguousarray(image))
    elif isinstance(image, str | Path):
        return Path(image)
    elif isinstance(image, Image.Image):
        return image
    else:
        given = type(image).__name__
    raise SettingError(
        f"image takes a file, a PIL image or an array uint8 [height, width, 3], not {given}"
    )


def checked(taker: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return keyword arguments as a function or a dataclass of settings declares them.

    A lone element becomes a sequence of one where a sequence is declared, and numbers of numpy
    become Python's.

    Raises:
        SettingError: an argument that `taker` does not have, or one of another type.
    """
    kinds = get_type_hints(taker)
    for name in given:
        if name not in kinds:
            raise SettingError(f"no setting {name!r}: there are {', '.join(kinds)}")
    return {name: _checked(name, value, kinds[name]) for name, value in given.items()}


def _checked(name: str, value: Any, kind: Any) -> Any:
    try:
        if get_origin(kind) not in (tuple, Sequence):
            return _as(kind, value)
        element = get_args(kind)[0]
        alone = isinstance(value, str) or not isinstance(value, Iterable)
        return tuple(_as(element, item) for item in ([value] if alone else value))
    except TypeError as error:
        raise SettingError(f"{name}={value!r}: {name} takes {_words(kind)}") from error


def _as(kind: Any, value: Any) -> Any:
    """Return a value of one of the types of settings; raises TypeError for another's."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        for choice in get_args(kind):
            try:
                return _as(choice, value)
            except TypeError:
                continue
    elif origin is Literal:
        return _as(str, value)  # which of them there are, its taker says
    elif kind in (int, float):
        if isinstance(value, _NUMBERS[kind]) and not isinstance(value, bool):
            return kind(value)
    elif isinstance(value, (bool, np.bool_) if kind is bool else kind):
        return value
    raise TypeError(f"{value!r} is no {kind}")


def _words(kind: Any) -> str:
    if get_origin(kind) in (tuple, Sequence):
        return f"{_words(get_args(kind)[0])}, once or several times"
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_words(choice) for choice in get_args(kind))
    return _WORDS.get(kind, f"a {kind.__name__}")
