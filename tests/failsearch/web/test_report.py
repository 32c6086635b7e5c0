"""The report in one file."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import failsearch
from failsearch.report import ReportSettings, write_report
from failsearch.report.pictures import CAPPED, shrunk
from indexer.errors import SettingError, StoreError
from tests.support.pictures import encode, noise


def test_a_report_needs_nothing_else(hostile_index: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    size = write_report(failsearch.open(hostile_index), out)
    text = out.read_text(encoding="utf-8")
    assert len(text.encode()) == size
    assert "48 of 120 images" in text
    assert text.count("data:image/jpeg") > 4
    assert set(re.findall(r'(?:src|href)="([^"]{5})', text)) == {"data:"}
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror" in text


def test_a_report_needs_no_server_installed(hostile_index: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('fastapi', 'starlette', 'uvicorn')))\n"  # not there
        "from failsearch.cli import main\n"
        "main(sys.argv[1:])"
    )
    words = [sys.executable, "-c", program, "report", out, "--db", hostile_index]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "48 of 120 images" in out.read_text(encoding="utf-8")
    words[3:5] = ["serve"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'failsearch[web]'" in done.stderr


def test_a_report_keeps_to_its_size(hostile_index: Path, tmp_path: Path) -> None:
    index = failsearch.open(hostile_index)
    whole = write_report(index, tmp_path / "whole.html")
    assert whole < 200_000
    with pytest.raises(SettingError, match="at least"):
        ReportSettings(max_mb=0.1)
    assert write_report(index, tmp_path / "small.html", ReportSettings(max_mb=0.2)) <= 200_000


def test_large_thumbnails_are_made_smaller() -> None:
    data = encode(noise((300, 200)), "JPEG", quality=95)
    assert len(data) > CAPPED
    small = shrunk(data)
    assert small is not None
    assert len(small) <= CAPPED


def test_a_place_that_cannot_be_written_is_said(hostile_index: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("file", "absent"):
        with pytest.raises(StoreError, match="cannot write"):
            write_report(failsearch.open(hostile_index), tmp_path / folder / "report.html")
    assert not (tmp_path / "absent").exists()


def test_a_folder_is_no_report(hostile_index: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is a folder: name a file in it"):
        write_report(failsearch.open(hostile_index), tmp_path)
    with pytest.raises(SettingError, match="is a folder: name a file in it"):
        write_report(failsearch.open(hostile_index), Path())
