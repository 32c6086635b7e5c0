"""Filters: what is typed is what the database evaluates, however hostile the text."""

import operator
from datetime import UTC, date, datetime
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import FilterError
from indexer.schema import samples_schema
from search.predicates import FAILURES, Filter, columns, parse_filter, to_sql

METADATA = pa.schema(
    [
        pa.field("meta_weather", pa.string()),
        pa.field("meta_speed", pa.int8()),
        pa.field("meta_odd name=x", pa.string()),
        pa.field("meta_label", pa.string()),
        pa.field("meta_day", pa.date32()),
        pa.field("meta_seen", pa.timestamp("us")),
        pa.field("meta_tags", pa.list_(pa.string())),
        pa.field("meta_a`b", pa.string()),
        pa.field("meta_kind", pa.dictionary(pa.int32(), pa.string())),
        pa.field("meta_exact", pa.float64()),
    ]
)
SCHEMA = samples_schema(units=2, classes=3, embedding=None, metadata=METADATA)
CLASSES = ("cat", "dog", "7")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("label=cat", Filter("label_name", "=", "cat")),
        ("prediction != dog", Filter("prediction_name", "!=", "dog")),
        ("label=1", Filter("label", "=", 1)),
        ("label=7", Filter("label_name", "=", "7")),  # a class of that name comes first
        ("confidence>0.9", Filter("confidence", ">", float(np.float32(0.9)))),
        ("meta_exact<=0.9", Filter("meta_exact", "<=", 0.9)),
        ("correct=false", FAILURES),
        ("correct==Yes", Filter("correct", "=", True)),
        ("weather!=rain", Filter("meta_weather", "!=", "rain")),
        ("weather=", Filter("meta_weather", "=", "")),
        ("weather=a=b<c", Filter("meta_weather", "=", "a=b<c")),
        ("odd name=x=y", Filter("meta_odd name=x", "=", "y")),
        ("meta_label=x", Filter("meta_label", "=", "x")),
        ("speed>=-5", Filter("meta_speed", ">=", -5)),
        ("day<2026-01-31", Filter("meta_day", "<", date(2026, 1, 31))),
        ("seen>2026-01-31T12:00+01:00", Filter("meta_seen", ">", datetime(2026, 1, 31, 11))),
        ("kind=x", Filter("meta_kind", "=", "x")),
        ("width>=32", Filter("width", ">=", 32)),
    ],
)
def test_parses(text: str, expected: Filter) -> None:
    assert parse_filter(text, SCHEMA, CLASSES) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat", "not a comparison"),
        ("=cat", "not a comparison"),
        ("", "not a comparison"),
        ("wether=rain", "did you mean 'weather'"),
        ("nothing like it=1", "there are id, source"),
        ("profile=1", "no column 'profile'"),
        ("label=fish", "no class 'fish'"),
        ("label=3", "no class '3'"),
        ("label=" + "9" * 5000, "no class '99"),
        ("label=dgo", "did you mean 'dog'"),
        ("label>1", "with = or !="),
        ("confidence>high", "a number, not 'high'"),
        ("confidence>nan", "a number, not 'nan'"),
        ("speed=300", "in the column's range, not '300'"),
        ("speed=1.5", "a whole number"),
        ("correct=maybe", "true or false"),
        ("correct>true", "true or false"),
        ("day=yesterday", "a date"),
        ("tags=x", "cannot be filtered on"),
        ("a`b=x", "backtick"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        parse_filter(text, SCHEMA, CLASSES)


def test_without_class_names_a_word_is_a_name_and_a_number_a_number() -> None:
    assert parse_filter("label=fish", SCHEMA) == Filter("label_name", "=", "fish")
    assert parse_filter("label=12", SCHEMA) == Filter("label", "=", 12)
    with pytest.raises(FilterError):
        parse_filter("label=99999999999", SCHEMA)


def test_conjunction_and_text_form() -> None:
    texts = ["label=cat", "correct=false", "speed!=3"]
    filters = [parse_filter(text, SCHEMA, CLASSES) for text in texts]
    assert to_sql(filters) == (
        "`label_name` = 'cat' AND `correct` = false AND (`meta_speed` != 3 OR `meta_speed` IS NULL)"
    )
    assert to_sql([]) is None
    assert [str(item) for item in filters] == ["label_name=cat", *texts[1:]]


def test_columns_go_by_bare_name_unless_shadowed() -> None:
    names = columns(SCHEMA)
    assert "weather" in names
    assert "meta_label" in names
    assert "profile" not in names
    assert "top_classes" not in names  # lists are neither compared nor sorted by


def test_refuses_operators_and_columns_that_did_not_come_from_the_parser() -> None:
    with pytest.raises(FilterError, match="unknown operator"):
        Filter("label", "OR 1=1 --", 1)
    with pytest.raises(FilterError, match="backtick"):
        Filter("a` = 1 OR 1=1 --", "=", 1).to_sql()


OPERATORS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
HOSTILE = [
    "'", "''", "\\'", "\\", '"', "`", "--", "/*", "*/", ";", "\0", "\n", "%", "_",
    "' OR '1'='1", "'; DROP TABLE samples; --", "\u2028", "é", "日本", "{}", "$1", "?", "NULL",
    "", "true", "x'00'",
]  # fmt: skip
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> lancedb.DBConnection:
    path: Path = tmp_path_factory.mktemp("filters")
    return lancedb.connect(path)


@given(
    rows=st.lists(st.one_of(st.none(), TEXTS), min_size=1, max_size=6),
    value=TEXTS,
    sign=st.sampled_from(sorted(OPERATORS)),
)
@settings(max_examples=60)
def test_strings_compare_as_in_python(
    database: lancedb.DBConnection, rows: list[str | None], value: str, sign: str
) -> None:
    table = database.create_table(
        "strings", pa.table({"n": range(len(rows)), "it's": pa.array(rows, pa.string())}),
        mode="overwrite",
    )  # fmt: skip
    found = table.search().where(Filter("it's", sign, value).to_sql()).to_arrow()
    compare = OPERATORS[sign]
    expected = [
        n
        for n, row in enumerate(rows)
        # UTF-8 sorts by code point, as Python does.
        if (compare(row, value) if row is not None else sign == "!=")
    ]
    assert sorted(found["n"].to_pylist()) == expected


def _unsigned_zero(value: float) -> float:
    """The database tells -0.0 from 0.0; no column of ours holds it."""
    return value + 0.0


@given(
    rows=st.lists(st.floats(width=32, allow_nan=False).map(_unsigned_zero), min_size=1, max_size=6),
    value=st.one_of(st.floats(-1e38, 1e38), st.just(0.9)),
    sign=st.sampled_from(sorted(OPERATORS)),
)
@settings(max_examples=40)
def test_numbers_compare_at_the_precision_of_the_column(
    database: lancedb.DBConnection, rows: list[float], value: float, sign: str
) -> None:
    stored = np.array([*rows, np.float32(0.9)], np.float32)
    schema = pa.schema([("n", pa.int64()), ("confidence", pa.float32())])
    table = database.create_table(
        "floats", pa.table([np.arange(len(stored)), stored], schema=schema), mode="overwrite"
    )
    chosen = parse_filter(f"confidence{sign}{value!r}", schema)
    found = table.search().where(chosen.to_sql()).to_arrow()
    rounded = np.float32(value)
    expected = np.flatnonzero(OPERATORS[sign](stored, rounded))
    assert sorted(found["n"].to_pylist()) == expected.tolist()


def test_every_type_reaches_the_database(database: lancedb.DBConnection) -> None:
    moment = datetime(2026, 1, 31, 12, 30, 15, 250)
    row = {
        "correct": True,
        "meta_speed": -5,
        "meta_day": date(2026, 1, 31),
        "meta_seen": moment,
        "meta_kind": "x'y",
        "meta_exact": 1e-300,
    }
    names = list(row)
    schema = pa.schema([SCHEMA.field(name) for name in names])
    table = database.create_table("types", pa.Table.from_pylist([row], schema=schema))
    for name, value in row.items():
        for sign in ("=", "!="):
            expected = int(sign == "=")
            assert table.count_rows(Filter(name, sign, value).to_sql()) == expected, (name, sign)
    aware = parse_filter(f"seen={moment.replace(tzinfo=UTC).isoformat()}", schema)
    assert table.count_rows(aware.to_sql()) == 1
