"""Vector search in one version of a table, by lancedb's asynchronous handle.

The synchronous one turns a query into a list of floats, checks each of them and crosses threads
five times; at 26,560 filters that takes milliseconds.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from .durability import store_errors
from .schema import METRIC, PROFILE

if TYPE_CHECKING:
    from lancedb.table import AsyncTable


_WAY_OUT = "build it again by `failsearch build-ann` or search by --exact"


class NearestRows:
    """The profiles of one version of a table, searched by its index.

    Args:
        database: folder of the database.
        table: name of the table.
        version: of the table; later rows are not searched.

    Raises:
        StoreError: the version is gone, or cannot be read.
    """

    def __init__(self, database: Path, table: str, version: int) -> None:
        from lancedb.background_loop import LOOP

        self._run = LOOP.run
        with store_errors(f"read version {version} of {table} of {database}"):
            self._table = self._run(_opened(database, table, version))

    def find(self, query: np.ndarray, count: int, probes: int, where: str | None) -> pa.Table:
        """Return the rows that the index estimates to be nearest; rows not indexed are left out.

        Args:
            query: profile, float32 [F].
            count: rows at most.
            probes: partitions to search.
            where: SQL of the rows to search, evaluated before the search; None for all.

        Returns:
            Columns _distance (float32) and _rowid (uint64), nearest first.

        Raises:
            StoreError: the index cannot be read.
        """
        asked = self._table.query().nearest_to(query).column(PROFILE).distance_type(METRIC)
        asked = asked.nprobes(probes).limit(count).select(["_distance"])
        asked = asked.with_row_id().fast_search()
        asked = asked.where(where) if where else asked
        with store_errors(f"search the approximate index, {_WAY_OUT}"):
            return self._run(asked.to_arrow())


async def _opened(database: Path, name: str, version: int) -> "AsyncTable":
    import lancedb

    connection = await lancedb.connect_async(database)
    table = await connection.open_table(name)
    await table.checkout(version)
    return table
