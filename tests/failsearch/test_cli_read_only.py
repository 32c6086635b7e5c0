"""Places that cannot be written to are refused before the work."""

import os
from pathlib import Path

import pytest

from .conftest import Run


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "x", "--montage", "{tmp}/m.png"),
        ("modes", "--montage", "{tmp}/m.png"),
        ("audit", "--atlas", "{tmp}/a.parquet"),
        ("explain", "x", "--out", "{tmp}/deep/er"),
        ("repair", "table", "--markdown", "{tmp}/t.md"),
    ],
)
def test_a_read_only_place_is_refused_before_the_work(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("failsearch.open", lambda _: pytest.fail("the work began"))
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)
    ran = run(*(word.format(tmp=tmp_path) for word in arguments), "--db", tmp_path / "db")
    assert ran.code == 2
    assert ran.err.endswith(f"{tmp_path} is read-only, choose another place\n")
