"""Work behind the pages: progress, stopping, failing."""

import shutil
import threading
import time
from pathlib import Path

import pytest

from failsearch.web.jobs import BackgroundJob, Jobs
from indexer.errors import LockedError, SettingError

from .conftest import Connect, finished


def ended(jobs: Jobs) -> BackgroundJob:
    """Wait for the job and return it."""
    deadline = time.monotonic() + 120
    while jobs.current is None or jobs.current.active:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return jobs.current


def test_a_job_reports_and_ends() -> None:
    jobs, go = Jobs(), threading.Event()

    def work(step):
        with step("Counting", 3, 1) as tracker:
            tracker.advance(1)
            go.wait(120)
            tracker.advance(1)
        return "/there"

    job = jobs.start("a job", work)
    while job.done < 2:
        time.sleep(0.01)
    assert (job.step, job.total, job.active) == ("Counting", 3, True)
    with pytest.raises(LockedError, match="a job is still running"):
        jobs.start("another", work)
    go.set()
    assert ended(jobs).to_json()["address"] == "/there"
    assert jobs.start("another", lambda step: "/").title == "another"
    ended(jobs)


def test_a_job_stops_at_its_next_step() -> None:
    jobs = Jobs()

    def work(step):
        with step("Forever", 0, 0) as tracker:
            while True:
                tracker.advance(1)
                time.sleep(0.01)

    jobs.start("forever", work)
    jobs.stop()
    assert ended(jobs).state == "stopped"
    assert ended(jobs).error is None


def test_a_stop_that_comes_too_late_changes_nothing() -> None:
    jobs = Jobs()
    jobs.start("short", lambda step: "/there")
    ended(jobs)
    assert jobs.stop() is jobs.current
    assert ended(jobs).state == "done"


def test_a_failing_job_says_why() -> None:
    def work(step):
        raise SettingError("the mode is too small")

    jobs = Jobs()
    jobs.start("failing", work)
    assert ended(jobs).state == "failed"
    assert ended(jobs).error == "the mode is too small"


def test_modes_are_found_behind_the_page(connect: Connect, own_index: Path) -> None:
    client = connect(own_index)
    assert client.get("/api/job").json() == {"job": None}
    assert client.post("/api/modes/find").status_code == 202
    job = finished(client)
    assert (job["state"], job["address"]) == ("done", "/modes")


def test_a_repair_starts_from_a_mode(connect: Connect, model_index: Path, tmp_path: Path) -> None:
    client = connect(Path(shutil.copytree(model_index, tmp_path / "own.lancedb")))
    assert client.post("/api/repairs", json={"mode": "m99"}).status_code == 404
    mode = client.get("/api/modes").json()["modes"][0]["id"]
    assert client.post("/api/repairs", json={"mode": mode, "max_drop": -1}).status_code == 422
    started = client.post("/api/repairs", json={"mode": mode, "max_drop": 0.5})
    assert started.status_code == 202
    job = finished(client)
    assert job["state"] in ("done", "failed"), job
    if job["state"] == "failed":  # a mode can be too small to be split
        assert "choose a larger mode" in job["error"]
        return
    page = client.get(job["address"], headers={"accept": "text/html"}).text
    assert "Verdict" in page
    (report,) = client.get("/api/repairs").json()["repairs"]
    assert "model" not in report
    assert report["settings"]["max_drop"] == 0.005
    patch = client.get(f"/api/repairs/{report['id']}/patch")
    assert patch.status_code == (200 if report["found"] else 404)
