"""What commands print, for people and for pipes."""

import json

import pytest

from failsearch.cli.output import emit, table

ID = "cat\tin\na \x1b[31mbox\u2028\x9b.png"
SHOWN = "cat\\tin\\na \\x1b[31mbox\\u2028\\x9b.png"


def show(capsys: pytest.CaptureFixture[str], as_json: bool = False) -> str:
    def lines(console) -> None:
        console.print(f"query {ID}", markup=False)
        console.print(table(("id", "loss"), [(ID, 1.0), ("plain", 2.0)]))

    emit({"id": ID}, as_json, lines)
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [None, "200"])
def test_control_characters_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)  # as on a terminal of this width
    printed = show(capsys).splitlines()
    # A line break outside of tables is one; what the ids of a table hold breaks no row.
    assert printed[:2] == ["query cat\\tin", SHOWN.partition("\\n")[2]]
    assert [line.split("  ")[0] for line in printed[2:]] == ["id", SHOWN, "plain"]


def test_json_keeps_every_character(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(show(capsys, as_json=True)) == {"id": ID}
