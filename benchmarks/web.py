"""Times of the web app, asked over HTTP: `python -m benchmarks.web DB [--rows 100000]`.

Two servers are started and asked as a browser would: one for the index as it is, with its model,
and one for a made index of `--rows` samples, without. Every page is asked once to warm up (also
given, as `first_ms`) and then repeatedly. Memory is the resident size of the server after all
pages and before the model; of it, `of_table_mb` is the mapped file of the profiles.
"""

import argparse
import base64
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np

import failsearch
from failsearch.report import write_report
from failsearch.web.security import TOKEN_HEADER
from indexer.store import Store

from .web_index import make_web_index

STARTS = 3
REPEATS = 9
THUMBNAILS = 59
CONNECTIONS = 6
"""That a browser opens to one host."""


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("db", type=Path)
    parser.add_argument("--rows", type=int, default=100_000, help="samples of the made index")
    parser.add_argument("--large", type=Path, help="where the made index is, or is to be kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/web.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large = options.large or Path(folder) / "large.lancedb"
        if not large.exists():
            make_web_index(Store.open(options.db), large, options.rows)
        figures = {
            "first_page_s": [first_page(options.db) for _ in range(STARTS)],
            "index": measure(options.db) | model_times(options.db),
            "made": measure(large),
            "report_mb": write_report(failsearch.open(options.db), Path(folder) / "r.html") / 1e6,
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


@contextmanager
def served(db: Path) -> Iterator[tuple[httpx.Client, int]]:
    """Serve an index; yields a client of its first page's token, and the server's process."""
    command = [sys.executable, "-m", "failsearch", "serve", "--db", str(db), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            address = server.stderr.readline().split()[-1]
            with httpx.Client(base_url=address, timeout=120) as client:
                yield client, server.pid
        finally:
            server.terminate()


def first_page(db: Path) -> float:
    """Return seconds from the command to the first page."""
    begun = time.perf_counter()
    with served(db) as (client, _):
        client.get("/").raise_for_status()
        return time.perf_counter() - begun


def measure(db: Path) -> dict[str, Any]:
    """Return size, page times, thumbnails and memory of a server without a model."""
    with served(db) as (client, process):
        overview = client.get("/api/overview").json()
        sample = client.get("/api/failures").json()["failures"][0]["id"]
        token = form_token(client)
        if client.get("/api/map").status_code == 404:
            client.post("/api/map/make", headers=token).raise_for_status()
            while client.get("/api/job").json()["job"]["active"]:
                time.sleep(0.2)
        return {
            "samples": overview["samples"],
            "failures": overview["failures"],
            "pages": {address: page_times(client, address) for address in addresses(sample)},
            "thumbnails_ms": thumbnails(client),
            **memory(process),
        }


def model_times(db: Path) -> dict[str, float]:
    """Return milliseconds of what asks the model."""
    with served(db) as (client, _):
        token = form_token(client)
        failures = client.get("/api/failures").json()["failures"]
        found: dict[str, float] = {
            "model_ms": timed(lambda: client.post("/api/model", headers=token)),
        }
        explanations = [
            timed(lambda id=row["id"]: client.get("/api/explanation", params={"id": id}))
            for row in failures[: 1 + REPEATS]
        ]
        found["explanation_first_ms"] = explanations[0]
        found["explanation_ms"] = statistics.median(explanations[1:])
        found["brush_ms"] = brush_ms(client, token, failures[1]["id"])
        return found


def addresses(sample: str) -> list[str]:
    """Return every page, with a typical query, and what the map fetches."""
    id = quote(sample, safe="")
    return [
        "/",
        "/failures",
        "/failures?among=all&sort=-confidence&page=99999",
        "/failures?filter=confidence%3E0.9&page=3",
        f"/sample?id={id}",
        f"/search?id={id}",
        f"/search?id={id}&among=all",
        "/modes",
        "/modes/m1",
        "/map",
        "/api/map",
        "/audit",
        "/repairs",
        "/repairs/r1",
    ]


def page_times(client: httpx.Client, address: str) -> dict[str, float]:
    """Return milliseconds of the first request, and the median and worst of the next ones."""
    first = timed(lambda: client.get(address))
    later = [timed(lambda: client.get(address)) for _ in range(REPEATS)]
    return {"first_ms": first, "median_ms": statistics.median(later), "worst_ms": max(later)}


def thumbnails(client: httpx.Client) -> float:
    """Return milliseconds of all thumbnails of a gallery page, asked as a browser asks."""
    first, *shown = client.get("/api/failures?page=2").json()["failures"][: 1 + THUMBNAILS]
    client.get("/thumbnail", params={"id": first["id"]})  # imports lancedb
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        begun = time.perf_counter()
        for answer in pool.map(
            lambda row: client.get("/thumbnail", params={"id": row["id"]}), shown
        ):
            answer.raise_for_status()
        return 1000 * (time.perf_counter() - begun)


def brush_ms(client: httpx.Client, token: dict[str, str], sample: str) -> float:
    """Return the median milliseconds of a brushed square of a quarter of the view."""
    view = client.get("/api/explanation", params={"id": sample}).json()
    region = np.zeros((view["height"], view["width"]), bool)
    region[: view["height"] // 2, : view["width"] // 2] = True
    mask = base64.b64encode(np.packbits(region).tobytes()).decode()
    body = {"id": sample, "mask": mask, "width": view["width"], "height": view["height"]}
    return statistics.median(
        timed(lambda: client.post("/api/mask", json=body, headers=token)) for _ in range(REPEATS)
    )


def form_token(client: httpx.Client) -> dict[str, str]:
    """Return the header that a page sends when it changes something."""
    found = re.search(r'name="form-token" content="([^"]+)"', client.get("/").text)
    assert found is not None
    return {TOKEN_HEADER: found[1]}


def memory(process: int) -> dict[str, float]:
    """Return resident megabytes of a process, and how many of them are pages of the table.

    The profiles are mapped: their pages are the system's file cache, which gives them up when
    somebody else needs the room.
    """
    total = table = 0
    of_table = False
    for line in Path(f"/proc/{process}/smaps").read_text(encoding="utf-8").splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            of_table = line.endswith(".lance")
        elif line.startswith("Rss:"):
            total += int(line.split()[1])
            table += int(line.split()[1]) * of_table
    return {"resident_mb": total / 1024, "of_table_mb": table / 1024}


def timed(ask: Callable[[], httpx.Response]) -> float:
    """Return the milliseconds of one request, which must succeed."""
    begun = time.perf_counter()
    answer = ask()
    elapsed = 1000 * (time.perf_counter() - begun)
    answer.raise_for_status()
    return elapsed


if __name__ == "__main__":
    main()
