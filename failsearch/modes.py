"""What an index answers about failure modes; a base of `Index`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from indexer.progress import Progress, silent
from indexer.store import Store

from .arguments import checked

if TYPE_CHECKING:
    from search.modes import ModeReport


class Modes:
    """Failure modes of an index: found, read, and corrected by hand."""

    store: Store

    def find_modes(
        self, *, replace_edited: bool = False, progress: Progress = silent, **settings: Any
    ) -> ModeReport:
        """Group the failures and store the result; see `search.modes.find_modes`.

        Settings are those of `search.modes.ModeSettings`.
        """
        from search.modes import ModeSettings, find_modes

        return find_modes(
            self.store,
            ModeSettings(**checked(ModeSettings, settings)),
            replace_edited=replace_edited,
            progress=progress,
        )

    @property
    def modes(self) -> ModeReport:
        """The modes found last; raises AbsentError where they were never looked for."""
        from search.modes import read_modes

        return read_modes(self.store)

    def rename_mode(self, mode: str, name: str) -> ModeReport:
        """Give a mode another name; see `search.modes.edit.rename_mode`."""
        from search.modes import rename_mode

        return rename_mode(self.store, mode, name)

    def merge_modes(self, modes: Iterable[str], name: str | None = None) -> ModeReport:
        """Make one mode of several under the first id; see `search.modes.edit.merge_modes`."""
        from search.modes import merge_modes

        return merge_modes(self.store, [modes] if isinstance(modes, str) else tuple(modes), name)

    def split_mode(self, mode: str, parts: int = 2) -> ModeReport:
        """Split a mode, the largest part keeps its id; see `search.modes.edit.split_mode`."""
        from search.modes import split_mode

        return split_mode(self.store, mode, parts)
