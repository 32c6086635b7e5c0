"""What a person decided about suspects.

Every decision is a row of the table `decisions`; the last one on a sample counts, so that a
change of mind is an addition, and nothing that was decided is ever lost.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from indexer.errors import SettingError
from indexer.schema import DECISIONS

if TYPE_CHECKING:
    from indexer.store import Store

WRONG_LABEL = "wrong label"
FINE = "fine"
AMBIGUOUS = "ambiguous"
NO_IMAGE = "not an image"
VERDICTS = (WRONG_LABEL, FINE, AMBIGUOUS, NO_IMAGE)

DECISION_SCHEMA = pa.schema(
    [
        pa.field("sample", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("label_name", pa.string()),  # as indexed
        pa.field("right_name", pa.string()),  # only of a wrong label
        pa.field("time", pa.string()),  # ISO 8601 in UTC
    ]
)


def decide(
    store: "Store", sample: str, verdict: str, right_name: str | None = None
) -> dict[str, Any]:
    """Store a decision on one sample and return it as a row.

    Args:
        store: the index.
        sample: id of a sample.
        verdict: one of `VERDICTS`.
        right_name: the right class of a wrong label.

    Raises:
        UnknownSampleError: no such sample.
        SettingError: no such verdict, or a wrong label without another class that is right.
        LockedError: another process is writing to the index.
    """
    label_name = store.take([sample], ["label_name"])["label_name"][0].as_py()
    if verdict not in VERDICTS:
        raise SettingError(f"no verdict {verdict!r}: choose {', '.join(VERDICTS)}")
    classes = store.manifest.classes
    if verdict == WRONG_LABEL and (right_name not in classes or right_name == label_name):
        raise SettingError(f"a wrong label needs the class that is right, not {right_name!r}")
    row = {
        "sample": sample,
        "verdict": verdict,
        "label_name": label_name,
        "right_name": right_name if verdict == WRONG_LABEL else None,
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
    }
    store.append_table(DECISIONS, pa.Table.from_pylist([row], schema=DECISION_SCHEMA))
    return row


def read_decisions(store: "Store") -> dict[str, dict[str, Any]]:
    """Return the last decision on each sample by its id; empty where nothing was decided."""
    table = store.read_table(DECISIONS)
    rows = [] if table is None else table.to_pylist()
    return {row["sample"]: row for row in sorted(rows, key=lambda row: row["time"])}
