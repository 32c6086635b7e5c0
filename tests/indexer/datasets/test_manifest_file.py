import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.datasets import open_dataset, open_source
from indexer.errors import DataError, RejectedImageError
from tests.support.pictures import picture


def write(tmp_path, text, name="set.csv"):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return file


def test_paths_are_relative_to_the_manifest(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    picture().save(tmp_path / "images" / "a.png")
    file = write(tmp_path, f"path,label\nimages/a.png,cat\n{tmp_path}/images/a.png,dog\n")
    monkeypatch.chdir("/")

    dataset = open_dataset(file)

    assert [row.label_name for row in dataset.rows()] == ["cat", "dog"]
    first, second = (dataset.read(row.ref) for row in dataset.rows())
    assert first == second


def test_further_columns_are_typed_metadata(tmp_path):
    file = write(
        tmp_path,
        "path,label,score,count,night,day,camera name\n"
        'a.png,0,0.5,3,true,2020-01-02,"left, ""upper"""\n'
        "b.png,1,,,,,\n",
    )

    dataset = open_dataset(file)

    assert [str(field.type) for field in dataset.metadata_schema] == [
        "double",
        "int64",
        "bool",
        "date32[day]",
        "string",
    ]
    first, second = (row.metadata for row in dataset.rows())
    assert first == {
        "meta_score": 0.5,
        "meta_count": 3,
        "meta_night": True,
        "meta_day": datetime.date(2020, 1, 2),
        "meta_camera_name": 'left, "upper"',
    }
    assert set(second.values()) == {None}


def test_label_path_and_id_stay_text_as_written(tmp_path):
    file = write(tmp_path, "id,path,label\n007,01.png,a\n08,02.png,b\n")

    assert [row.id for row in open_dataset(file).rows()] == ["007", "08"]
    assert [row.ref for row in open_dataset(file).rows()] == ["01.png", "02.png"]


def test_columns_can_have_other_names(tmp_path):
    file = write(tmp_path, "file,species,key\na.png,cat,k1\n")

    dataset = open_dataset(file, path_column="file", label_column="species", id_column="key")

    (row,) = dataset.rows()
    assert (row.id, row.ref, row.label_name, row.metadata) == ("k1", "a.png", "cat", {})
    assert list(open_source(dataset.to_source()).rows()) == [row]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": "y"}, "no column 'y' \\(--label-column\\): its columns are path, label"),
        ({"path_column": "file"}, "no column 'file' \\(--path-column\\)"),
        ({"id_column": "key"}, "no column 'key' \\(--id-column\\)"),
    ],
)
def test_a_missing_column_is_named(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        open_dataset(write(tmp_path, "path,label\na.png,cat\n"), **options)


def test_columns_of_one_name_or_none_are_all_kept(tmp_path):
    file = write(tmp_path, "path,label,x,x,,\na.png,cat,1,2,3,\n")

    (row,) = open_dataset(file).rows()

    assert list(row.metadata.values()) == [1, 2, 3, None]
    assert list(row.metadata)[:2] == ["meta_x", "meta_x_2"]


@pytest.mark.parametrize("column", ["path", "label", "id"])
def test_a_column_that_is_needed_must_be_the_only_one_of_its_name(tmp_path, column):
    file = write(tmp_path, f"path,label,id,{column}\na.png,cat,1,x\n")

    with pytest.raises(DataError, match=f"several columns '{column}' .*: rename all but one"):
        open_dataset(file)


def test_rows_with_gaps_keep_their_place(tmp_path):
    file = write(tmp_path, "path,label\na.png,cat\n,dog\nc.png,\nd.png,dog\na.png,cat\n")

    rows = list(open_dataset(file).rows())

    assert [row.error for row in rows] == [
        None,
        "no path",
        "no label",
        None,
        "duplicate id: an earlier row has it already",
    ]
    assert [row.label_name for row in rows] == ["cat", "dog", None, "dog", "cat"]


def test_a_malformed_line_is_an_error_under_its_number(tmp_path):
    file = write(tmp_path, "path,label,score\na.png,cat,1\nb.png,cat\nc.png,dog,2\n")

    rows = list(open_dataset(file).rows())

    assert [(row.id, row.error) for row in rows] == [
        ("a.png", None),
        ("c.png", None),
        ("line 3", "2 values, the header has 3"),
    ]
    assert rows[1].metadata == {"meta_score": 2}


def test_lines_that_are_all_malformed_are_counted_with_the_first_reason(tmp_path):
    file = write(tmp_path, "path,label\na.png,cat,\nb.png,dog,\n")

    with pytest.raises(DataError, match=r"2 lines, none usable; line 2 has 3 values, the header"):
        open_dataset(file)


def test_a_byte_order_mark_and_a_tab_are_understood(tmp_path):
    file = write(tmp_path, "\ufeffpath\tlabel\na, b.png\tcat\n", "set.tsv")

    (row,) = open_dataset(file).rows()

    assert (row.ref, row.label_name) == ("a, b.png", "cat")


@pytest.mark.parametrize("content", [b"", b"path,label\n", b"path,label\n\xff\xfe.png,cat\n"])
def test_a_manifest_without_readable_rows_is_an_error(tmp_path, content):
    (tmp_path / "set.csv").write_bytes(content)

    with pytest.raises(DataError, match=r"set\.csv"):
        open_dataset(tmp_path / "set.csv")


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_another_delimiter_is_found_by_the_columns_that_it_gives(tmp_path, delimiter):
    lines = [("\ufeffpath", '"label"', "score, in %"), ("a, b.png", "cat", "0,5")]
    text = "".join(delimiter.join(line) + "\r\n" for line in lines)
    file = write(tmp_path, text)

    (row,) = open_dataset(file).rows()

    assert (row.ref, row.label_name, row.metadata) == (
        "a, b.png",
        "cat",
        {"meta_score_in": "0,5"},
    )


@pytest.mark.parametrize("header", ["path;species;note", "file;species;path, old"])
def test_a_missing_column_is_named_whatever_the_delimiter(tmp_path, header):
    with pytest.raises(DataError, match=rf"its columns are {header.replace(';', ', ')}$"):
        open_dataset(write(tmp_path, f"\n{header}\na.png;cat;x\n"))


def test_a_comma_stays_the_delimiter_where_a_name_holds_another(tmp_path):
    file = write(tmp_path, "path,label,a;b;c;d\na.png,cat,1\n")

    assert open_dataset(file).metadata_schema.names == ["meta_a_b_c_d"]


UMLAUT = "path,label,nöte\na.png,cat,x\n"
ACCENT = "path,label,note\na.png,cat,x\nb.png,dog,café\n"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (UMLAUT.encode("utf-16"), "it is UTF-16"),
        (b"\xfe\xff" + UMLAUT.encode("utf-16-be"), "it is UTF-16"),
        (UMLAUT.encode("utf-16-be"), "it seems to be UTF-16 without a mark"),
        ("path,label\n".encode("utf-16-le"), "it seems to be UTF-16 without a mark"),
        (UMLAUT.encode("latin-1"), "line 1"),
        (ACCENT.encode("latin-1"), "line 3"),
    ],
)
def test_another_encoding_than_utf_8_is_refused(tmp_path, content, found):
    (tmp_path / "set.csv").write_bytes(content)

    with pytest.raises(DataError, match=rf"set\.csv is not UTF-8 \({found}\): save it as UTF-8"):
        open_dataset(tmp_path / "set.csv")


def test_a_parquet_manifest_keeps_its_types(tmp_path):
    table = pa.table(
        {
            "path": ["a.png", "b.png"],
            "label": pa.array(["cat", "dog"]).dictionary_encode(),
            "when": pa.array([datetime.datetime(2020, 1, 1), None], pa.timestamp("us")),
            "tags": [["x"], []],
            "note": pa.array(["n", None], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "set.parquet")

    dataset = open_dataset(tmp_path / "set.parquet")

    assert dataset.kind == "manifest"
    assert dataset.metadata_schema.names == ["meta_when", "meta_note"]
    assert dataset.left_out == ("tags",)
    assert [row.label_name for row in dataset.rows()] == ["cat", "dog"]


def test_the_fingerprint_follows_the_manifest_and_the_images(tmp_path):
    file = write(tmp_path, "path,label\na.png,cat\n")
    missing = open_dataset(file).fingerprint
    picture().save(tmp_path / "a.png")

    assert open_dataset(file).fingerprint != missing


def test_a_path_that_is_no_file_is_rejected(tmp_path):
    (tmp_path / "folder.png").mkdir()
    dataset = open_dataset(write(tmp_path, "path,label\nfolder.png,cat\n"))

    for ref, reason in (("folder.png", "not a regular file"), ("no\0such", "cannot be read")):
        with pytest.raises(RejectedImageError, match=reason):
            dataset.read(ref)


@pytest.mark.parametrize("word", ["NA", "null", "NaN", "None"])
def test_a_word_for_no_value_is_a_label_where_a_class_has_that_name(tmp_path, word):
    text = f'path,label,score\na.png,{word},{word}\nb.png,cat,1\nc.png,,\nd.png,"{word}",2\n'
    dataset = open_dataset(write(tmp_path, text + "e.png,N/A,3\nf.png\n"))

    assert [row.label_name for row in dataset.rows()] == [None, "cat", None, word, None, None]
    rows = list(dataset.expecting(["cat", word]).rows())
    assert [row.label_name for row in rows] == [word, "cat", None, word, None, None]
    assert [row.metadata["meta_score"] for row in rows] == [None, 1, None, 2, 3, None]
    assert rows[0].error is None
    assert dataset.expecting(["cat", word]).fingerprint == dataset.fingerprint
    assert list(dataset.expecting(["cat"]).rows()) == list(dataset.rows())


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)


@given(cells=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12))
def test_any_quoted_text_comes_back(tmp_path_factory, cells):
    def quoted(text):
        return '"' + text.replace('"', '""') + '"'

    lines = [f"{quoted(label)},{quoted(note)},p{i}.png" for i, (label, note) in enumerate(cells)]
    file = tmp_path_factory.mktemp("csv") / "set.csv"
    file.write_text("\n".join(["label,note,path", *lines, ""]), encoding="utf-8", newline="")

    rows = list(open_dataset(file).rows())

    assert [row.ref for row in rows] == [f"p{i}.png" for i in range(len(cells))]
    for row, (label, _) in zip(rows, cells, strict=True):
        assert (row.label is None) == (not label.strip())
        if row.label_name is not None:
            assert row.label_name == label.strip()
