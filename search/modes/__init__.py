"""Failure modes: misclassified samples grouped by what in the model goes wrong."""

from .edit import form_mode, merge_modes, rename_mode, split_mode
from .find import find_modes
from .quality import chance_pair_share
from .report import Confusion, Mode, ModeReport, SharedFilter
from .settings import ModeSettings
from .stored import known_modes, read_modes

__all__ = [
    "Confusion",
    "Mode",
    "ModeReport",
    "ModeSettings",
    "SharedFilter",
    "chance_pair_share",
    "find_modes",
    "form_mode",
    "known_modes",
    "merge_modes",
    "read_modes",
    "rename_mode",
    "split_mode",
]
