"""Whether the Hugging Face hub can be reached, and its libraries kept from asking it.

Without a network these libraries repeat each request for half a minute, and write a line for
every attempt.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from .switches import switched

PATIENCE_S = 5.0


def hub_is_reachable() -> bool:
    """Ask the hub for its first page, once; any answer counts, through the proxy of the system."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        with urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=PATIENCE_S):
            return True
    except HTTPError:
        return True
    except URLError as error:
        # With certificates that only the hub's own client is told of, it may still be reached.
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, ValueError):
        return False


@contextmanager
def hub_access(allowed: bool, *modules: Any) -> Iterator[None]:
    """Keep the hub's libraries to local files and their cache, unless access is allowed.

    Args:
        allowed: whether the hub may be asked; it is not asked where it cannot be reached.
        modules: modules besides `huggingface_hub.constants` that keep the switch.
    """
    from huggingface_hub import constants

    if allowed and hub_is_reachable():
        yield
    else:
        with switched((constants, *modules), "HF_HUB_OFFLINE", True):
            yield
