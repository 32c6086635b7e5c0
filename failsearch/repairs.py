"""What an index answers about repairs; a base of `Index`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from indexer.lock import require_writable
from indexer.progress import Progress, silent
from indexer.store import Store

from .arguments import checked
from .device import resolve_device

if TYPE_CHECKING:
    from finetune.mode_repair import ModeRepairReport
    from finetune.report import RepairReport
    from finetune.table_results import RepairTables
    from finetune.verify import Verification


class Repairs:
    """Repairs of the model of an index: made, recorded, measured again."""

    store: Store

    def repair(
        self,
        *,
        mode: str | None = None,
        sample: str | None = None,
        output: Path | None = None,
        device: str = "auto",
        progress: Progress = silent,
        **settings: Any,
    ) -> RepairReport:
        """Repair a failure or mode as the paper does; see `finetune.repair.repair`."""
        from finetune.repair import repair
        from finetune.settings import RepairSettings

        require_writable(self.store.path)
        return repair(
            self.store,
            mode=mode,
            sample=sample,
            settings=RepairSettings(**checked(RepairSettings, settings)),
            output=output,
            device=resolve_device(device),
            progress=progress,
        )

    def repair_mode(
        self,
        mode: str,
        *,
        output: Path | None = None,
        device: str = "auto",
        progress: Progress = silent,
        **settings: Any,
    ) -> ModeRepairReport:
        """Search for a repair worth shipping; see `finetune.mode_repair.repair_mode`."""
        from finetune.mode_repair import repair_mode
        from finetune.workbench import ModeRepairSettings

        require_writable(self.store.path)
        return repair_mode(
            self.store,
            mode,
            settings=ModeRepairSettings(**checked(ModeRepairSettings, settings)),
            output=output,
            device=resolve_device(device),
            progress=progress,
        )

    def repair_tables(
        self, *, device: str = "auto", progress: Progress = silent, **settings: Any
    ) -> RepairTables:
        """Measure the paper's tables 1 and 2; see `finetune.tables.repair_tables`."""
        from finetune.table_results import TableSettings
        from finetune.tables import repair_tables

        return repair_tables(
            self.store,
            TableSettings(**checked(TableSettings, settings)),
            device=resolve_device(device),
            progress=progress,
        )

    def read_repair(self, repair: str) -> tuple[dict[str, Any], pa.Table]:
        """Return a report, as in `repairs`, and its affected samples; raises UnknownSampleError."""
        from finetune.records import read_repair

        return read_repair(self.store, repair)

    def verify_patch(
        self,
        patch: Path,
        weights: Path | None = None,
        *,
        device: str = "auto",
        progress: Progress = silent,
    ) -> Verification:
        """Measure the figures of a patch again; see `finetune.verify.verify_patch`."""
        from finetune.verify import verify_patch

        chosen = resolve_device(device)
        return verify_patch(self.store, patch, weights, device=chosen, progress=progress)

    def reprofile(
        self,
        repair: str,
        *,
        whole_index: bool = False,
        device: str = "auto",
        progress: Progress = silent,
    ) -> Path:
        """Profile samples under a recorded repair; see `finetune.reprofile.reprofile`."""
        from finetune.reprofile import reprofile

        require_writable(self.store.path)
        chosen = resolve_device(device)
        return reprofile(
            self.store, repair, whole_index=whole_index, device=chosen, progress=progress
        )

    @property
    def repairs(self) -> list[dict[str, Any]]:
        """Reports of all repairs, oldest first; see `finetune.records.describe_today`."""
        from finetune.records import list_repairs

        return list_repairs(self.store)
