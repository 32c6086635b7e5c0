"""Text files of one row a line: CSV and TSV."""

from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from ..errors import DataError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
MISSING = frozenset(("NA", "N/A", "NaN", "nan", "null", "NULL", "None"))
"""Words that stand for no value, as nothing does; in quotation marks they are text."""
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_delimited(
    file: Path, text_columns: Collection[str], label_column: str, classes: Collection[str] = ()
) -> tuple[pa.Table, dict[str, str]]:
    """Return the table of a text file, and the reason by id for lines that do not parse.

    Args:
        file: a file with one of the suffixes of `DELIMITERS`.
        text_columns: columns that matter most; they tell which delimiter the file has, and stay
            text as written: "007" is a name, not the number 7.
        label_column: the one of them that holds labels.
        classes: words of `MISSING` that are labels all the same.

    Raises:
        DataError: it cannot be read, is not UTF-8, or has no header.
    """
    malformed: dict[str, str] = {}

    def note(row: pa_csv.InvalidRow) -> str:
        malformed[f"line {row.number}"] = (
            f"{row.actual_columns} values, the header has {row.expected_columns}"
        )
        return "skip"

    def parse(missing: Collection[str], columns: Sequence[str] = ()) -> pa.Table:
        return pa_csv.read_csv(
            pa.BufferReader(data),
            # One thread, since only then do malformed lines come with their number.
            read_options=pa_csv.ReadOptions(use_threads=False),
            parse_options=pa_csv.ParseOptions(
                delimiter=_delimiter(data, file, text_columns),
                newlines_in_values=True,
                invalid_row_handler=note,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in text_columns},
                include_columns=columns,
                null_values=["", *missing],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    try:
        data = file.read_bytes()
        _require_utf_8(data, file)
        table = parse(MISSING)
        if MISSING.intersection(classes):
            labels = parse(MISSING.difference(classes), [label_column])
            place = table.column_names.index(label_column)
            table = table.set_column(place, label_column, labels[label_column])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read as a table: {error}") from error
    return table, malformed


def _delimiter(data: bytes, file: Path, wanted: Collection[str]) -> str:
    """Return what gives most of the columns wanted, then most columns, then what the suffix says.

    Where the comma is the decimal mark, spreadsheets write semicolons into a CSV file.
    """
    header = data.lstrip(b"\r\n").partition(b"\n")[0].decode("utf-8-sig")

    def gives(delimiter: str) -> tuple[int, int]:
        names = [name.strip(' "\r') for name in header.split(delimiter)]
        return len(set(wanted).intersection(names)), len(names)

    return max((DELIMITERS[file.suffix.lower()], ";", "\t", ","), key=gives)


def _require_utf_8(data: bytes, file: Path) -> None:
    """Refuse other encodings: arrow takes their text for binary, or stops at the header."""
    advice = "save it as UTF-8"
    if data.startswith(UTF_16_MARKS):
        raise DataError(f"{file} is not UTF-8 (it is UTF-16): {advice}")
    if b"\0" in data[:2]:  # of a letter in Latin script one byte is zero, and no text holds zeros
        raise DataError(f"{file} is not UTF-8 (it seems to be UTF-16 without a mark): {advice}")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{file} is not UTF-8 (line {line}): {advice}") from error
