"""Named data sets of Hugging Face and TensorFlow without unasked downloads."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..hub import hub_access


@contextmanager
def data_access(allowed: bool) -> Iterator[None]:
    """Keep the Hugging Face libraries to local files and their cache, unless access is allowed."""
    from datasets import config

    with hub_access(allowed, config):
        yield


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return an exception's message as one line, shortened."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
