"""What commands say about the data they were given: names, ids and rows that cannot be used."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.arrays import index_of_arrays

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


def test_reasons_beyond_the_most_frequent_are_counted(
    run: Run, place: Place, tmp_path: Path
) -> None:
    image = next((place.images / "cross").glob("*.png"))
    labels = ["1", *(str(number) for number in range(11, 18))]
    rows = [f"{number}.png,{label}" for number, label in enumerate(labels)]
    for number in range(len(labels)):
        (tmp_path / f"{number}.png").write_bytes(image.read_bytes())
    (tmp_path / "set.csv").write_text("\n".join(["path,label", *rows]))
    db = tmp_path / "db.lancedb"
    command = ("index", tmp_path / "set.csv", "--model", f"local-dir:{place.model}", "--db", db)
    assert run(*command).code == 0
    said = run("info", "--db", db).out.splitlines()
    assert said[-7].split() == ["rejected", "7", "rows"]
    assert said[-1].strip() == "2 for other reasons: `failsearch info --rejects`"


def test_a_line_break_in_an_id_breaks_no_line(run: Run, tmp_path: Path) -> None:
    ids = ["a\nb.png", "c.png", "d.png"]
    db = tmp_path / "made.lancedb"
    raw = np.random.default_rng(0).lognormal(-3, 1, (3, 20)).astype(np.float32)
    logits = np.eye(3, dtype=np.float32)
    names = ("cat", "dog", "ship")
    index_of_arrays(db, raw=raw, logits=logits, labels=np.arange(3), names=names, ids=ids)
    ran = run("search", ids[0], "--among", "all", "--db", db)
    assert ran.out.startswith("query a\\nb.png: cat → cat")


OWN = """
from tests.support.tiny_run import TinyNet

class Net(TinyNet):
    class_names = ("circle", "cross", "stripes")

class Stated(Net):
    pretrained_cfg = {"input_size": (3, 16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3}
"""


@pytest.mark.filterwarnings("default::indexer.errors.FailsearchWarning")
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "Net",
            (),
            "224 × 224 pixels, mean 0.485,0.456,0.406, std 0.229,0.224,0.225: if it was trained "
            "with others, give --input-size, --mean, --std, or the model an attribute "
            "pretrained_cfg, a dictionary of input_size, mean, std",
        ),
        ("Net", ("--input-size", 16, "--std", 0.5), "mean 0.485,0.456,0.406: if it was"),
        ("Net", ("--input-size", 16, "--mean", 0.5, "--std", 0.5), None),
        ("Stated", (), None),
    ],
)
def test_a_transform_that_a_model_does_not_state_is_told(
    run: Run,
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: tuple[object, ...],
    said: str | None,
) -> None:
    module = f"nets_of_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "images"
    for path in sorted(place.images.rglob("*.png"))[::40]:
        (images / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, images / path.parent.name)
    spec = f"{module}:{name}"
    ran = run("index", images, "--model", spec, "--db", tmp_path / "db", *options, "--json")
    assert ran.document["samples"] == 6
    told = f"failsearch: warning: {spec} does not state all of its transform, and timm's is taken: "
    lines = [line for line in ran.err.splitlines() if "warning" in line]
    assert len(lines) == (said is not None)
    assert all(line.startswith(f"{told}{said}") for line in lines)


@pytest.mark.filterwarnings("default::indexer.errors.FailsearchWarning")
def test_hidden_folders_with_images_are_named(run: Run, own: Place, tmp_path: Path) -> None:
    image = next((own.images / "cross").glob("*.png"))
    folders = ("cross", ".a", ".b", ".c", ".d")
    for name in folders:
        (tmp_path / "set" / name).mkdir(parents=True)
        shutil.copy(image, tmp_path / "set" / name / f"new{name}.png")
    said = []
    for name in (None, ".a", ".b", ".c"):
        if name is not None:
            shutil.rmtree(tmp_path / "set" / name)
        ran = run("add", tmp_path / "set", "--db", own.db, "--json")
        assert ran.document["samples"] == 241
        said += [line for line in ran.err.splitlines() if "warning" in line]
    begin = f"failsearch: warning: {tmp_path / 'set'}: "
    many = "folders with images are skipped, since their names begin with a dot"
    assert said == [
        f"{begin}4 {many}: .a, .b, .c, …; rename what is a class",
        f"{begin}3 {many}: .b, .c, .d; rename what is a class",
        f"{begin}2 {many}: .c, .d; rename what is a class",
        f"{begin}a folder with images is skipped, since its name begins with a dot: .d; rename "
        "what is a class",
    ]
