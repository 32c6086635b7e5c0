"""Whose code may run: the factories that this user named, and consent to those that others did.

An index of a model of one's own module names that module and its folder, and opening the model
runs the code there. Indexes are shared, so what a manifest names is imported only where this user
named the same factory of the same folder before, or trusts it expressly.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from .errors import UntrustedModelError

TRUST_MODEL = "FAILSEARCH_TRUST_MODEL"
"""Environment variable: set to 1, whatever an index names may be imported."""

_KNOWN = "trusted-models.jsonl"


def trust_all() -> None:
    """Trust the models of all indexes, for the rest of this process."""
    os.environ[TRUST_MODEL] = "1"


def remember(spec: str, folder: str) -> None:
    """Note that this user named a factory of a folder.

    Where the note cannot be written, as in a read-only home, the environment variable remains.
    """
    if _is_known(spec, folder):
        return
    with suppress(OSError):
        path = _known_file()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whoever writes here decides what runs. One short line is appended at once, so that
        # several runs may note theirs at the same time.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, _line(spec, folder) + b"\n")
        finally:
            os.close(descriptor)


def require_trust(spec: str, folder: str) -> None:
    """Raise UntrustedModelError unless a factory that an index names may be imported."""
    if os.environ.get(TRUST_MODEL) == "1" or _is_known(spec, folder):
        return
    module = spec.partition(":")[0]
    raise UntrustedModelError(
        f"this index would import the module {module!r} from {os.path.abspath(folder)} to make "
        f"its model, which runs the code there, and you have not indexed with {spec} of that "
        f"folder: if you trust it, say `failsearch --trust-model …` or set {TRUST_MODEL}=1"
    )


def _is_known(spec: str, folder: str) -> bool:
    try:
        lines = _known_file().read_bytes().splitlines()
    except OSError:
        return False
    return _line(spec, folder) in lines


def _line(spec: str, folder: str) -> bytes:
    """Return what is noted, compared as bytes: a line that was cut off is no reason to fail."""
    return json.dumps([spec, os.path.abspath(folder)]).encode()


def _known_file() -> Path:
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    base = configured if os.path.isabs(configured) else os.path.expanduser("~/.config")
    # Never below the current folder, not even for a user without a home.
    return Path("/", base, "failsearch", _KNOWN)
