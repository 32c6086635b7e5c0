"""Filters: what is typed is what tables and the database evaluate, however hostile the text."""

import operator
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import FilterError
from indexer.schema import samples_schema
from search.arrow import marked
from search.predicates import FAILURES, Filter, columns, mask, parse_filter, to_sql

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
        pa.field("meta_taken", pa.timestamp("ms", "Europe/Berlin")),
        pa.field("meta_instant", pa.timestamp("ns")),
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
        (
            "taken>2026-01-31T12:00",
            Filter("meta_taken", ">", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ),
        (
            "taken>2026-01-31T12:00+01:00",
            Filter("meta_taken", ">", datetime(2026, 1, 31, 11, tzinfo=UTC)),
        ),
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
        ("weather=\udcff", "text in UTF-8"),
        ("instant>9999-01-01", "a time in the column's range"),
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


@given(
    rows=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=6),
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


MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
NANOSECONDS = st.datetimes(datetime(1678, 1, 1), datetime(2262, 1, 1))
NEAR = st.datetimes(datetime(2024, 3, 30), datetime(2024, 4, 1)).map(
    lambda moment: moment.replace(minute=moment.minute // 30 * 30, second=0, microsecond=0)
)  # an hour is left out there
NUMBERS = st.sampled_from([float("nan"), -float("nan"), -0.0, 0.0, 1.0, -1.0, float("inf")])
WIDE = st.floats(-1e300, 1e300, allow_subnormal=False)


def _column(kind: pa.DataType, values: st.SearchStrategy) -> st.SearchStrategy:
    return st.tuples(st.just(kind), st.lists(st.none() | values, min_size=1, max_size=6))


def _whole_seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


COLUMNS = st.one_of(
    _column(pa.string(), TEXTS),
    _column(pa.bool_(), st.booleans()),
    _column(pa.int8(), st.integers(-128, 127)),
    _column(pa.uint64(), st.integers(0, 2**64 - 1)),
    _column(pa.float32(), NUMBERS | st.floats(width=32)),
    _column(pa.float64(), NUMBERS | st.floats()),
    _column(pa.date32(), st.dates()),
    _column(pa.timestamp("s"), MOMENTS.map(_whole_seconds)),
    _column(pa.timestamp("us"), MOMENTS),
    _column(pa.timestamp("ns"), NANOSECONDS),
    *(
        _column(pa.timestamp(unit, zone), NEAR)
        for unit in ("s", "us", "ns")
        for zone in ("UTC", "Europe/Berlin", "-03:30")
    ),
)


def _values(kind: pa.DataType) -> st.SearchStrategy[str]:
    """What a user may type behind the operator."""
    if pa.types.is_boolean(kind):
        return st.sampled_from(["true", "no"])
    if pa.types.is_integer(kind):
        return st.integers(0, 127).map(str)
    if pa.types.is_floating(kind):
        return (WIDE | st.sampled_from([-0.0, 0.0, 1.0])).map(repr)
    if pa.types.is_date(kind):
        return st.dates().map(str)
    if pa.types.is_timestamp(kind):
        zones = st.sampled_from(["", "Z", "+02:00"])
        return st.builds("{}{}".format, (NEAR | NANOSECONDS).map(datetime.isoformat), zones)
    return TEXTS.map(str.strip)


@given(data=st.data(), column=COLUMNS, sign=st.sampled_from(sorted(OPERATORS)))
@settings(max_examples=150)
def test_tables_and_the_database_select_the_same_rows(
    database: lancedb.DBConnection,
    data: st.DataObject,
    column: tuple[pa.DataType, list[Any]],
    sign: str,
) -> None:
    kind, rows = column
    if pa.types.is_boolean(kind):
        sign = "!=" if sign == "!=" else "="
    # A row more that equals the value.
    typed = data.draw(_values(kind))
    schema = pa.schema([("n", pa.int64()), ("meta_x", kind)])
    chosen = parse_filter(f"x{sign}{typed}", schema)
    table = pa.table([range(len(rows) + 1), pa.array([*rows, chosen.value], kind)], schema=schema)
    found = database.create_table("both", table, mode="overwrite").search().where(chosen.to_sql())
    assert marked(chosen.mask(table)).tolist() == sorted(found.to_arrow()["n"].to_pylist())
    expected = [n for n, row in enumerate(table["meta_x"].to_pylist()) if _passes(row, chosen)]
    if kind != pa.timestamp("ns"):  # Python's datetimes end at microseconds
        assert marked(mask([chosen], table)).tolist() == expected


def _passes(row: Any, chosen: Filter) -> bool:
    if row is None:
        return chosen.operator == "!="
    if isinstance(row, datetime) and row.tzinfo is not None:
        row = row.astimezone(UTC)
    return OPERATORS[chosen.operator](row, chosen.value)


def test_a_table_without_the_column_or_of_another_type_is_refused() -> None:
    table = pa.table({"meta_day": pa.array([date(2026, 1, 31)])})
    with pytest.raises(FilterError, match="no column 'speed'"):
        Filter("speed", "=", 1).mask(table)
    with pytest.raises(FilterError, match="cannot be compared"):
        Filter("meta_day", "=", "x").mask(table)


def test_a_filter_does_without_pandas_and_without_the_database() -> None:
    """Both take longer to import than a search takes."""
    program = """
import io, os, sys
import pyarrow.csv
from search.predicates import Filter, mask
table = pyarrow.csv.read_csv(io.BytesIO(b"text,number,truth\\na,1.0,true\\nb,2.0,false\\n"))
chosen = Filter("text", "=", "b"), Filter("number", ">", 0.5), Filter("truth", "=", False)
assert mask(chosen, table).to_pylist() == [False, True]
os._exit(len({"pandas", "lancedb"} & set(sys.modules)))
"""
    # Not sys.exit: one that meets arrow's reading threads aborts, once in a while.
    subprocess.run([sys.executable, "-c", program], check=True)
