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


def test_images_with_known_names_are_counted_and_told_apart(
    run: Run, own: Place, tmp_path: Path
) -> None:
    first, other = sorted((own.images / "cross").glob("*.png"))[:2]
    more = tmp_path / "more" / "cross"
    more.mkdir(parents=True)
    (more / first.name).write_bytes(other.read_bytes())
    refused = run("add", more.parent, "--db", own.db)
    assert refused.code == 2
    assert "the index holds it already; --id-prefix tells" in refused.err
    (more / "new.png").write_bytes(other.read_bytes())
    said = run("add", more.parent, "--db", own.db).out
    assert "Ids that the index holds already: 1; --id-prefix tells" in said

    told_apart = ("--id-prefix", "b/", "--db", own.db)
    added = run("add", more.parent, *told_apart, "--json").document
    assert (added["samples"], added["duplicates"]) == (243, 0)
    assert run("search", f"b/cross/{first.name}", "--among", "all", "--db", own.db).code == 0
