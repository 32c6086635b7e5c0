"""What `failsearch index` and `failsearch add` say about the data they were given."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .conftest import Place, Run


def test_columns_that_are_not_kept_are_named(run: Run, place: Place, tmp_path: Path) -> None:
    paths = sorted(map(str, place.images.rglob("*.png")))[::20]
    columns = {"path": paths, "label": [Path(path).parent.name for path in paths]}
    boxes = {"boxes": [[1, 2]] * len(paths), "night": [True] * len(paths)}
    pq.write_table(pa.table({**columns, **boxes}), tmp_path / "set.parquet")
    command = ("index", tmp_path / "set.parquet", "--model", f"local-dir:{place.model}")
    ran = run(*command, "--db", tmp_path / "db.lancedb")
    assert ran.code == 0
    assert "Columns not kept, since no filter could use them: boxes." in ran.out
    again = run(*command, "--db", tmp_path / "db.lancedb", "--json")
    assert again.document["left_out"] == ["boxes"]
