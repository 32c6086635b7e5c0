"""Search on real and made profiles: our paths, LanceDB's, FAISS, hnswlib and usearch.

    python -m benchmarks.search INDEX --parts ours,graph,faiss,ann,flat,hnswlib,usearch,pq
    python -m benchmarks.search INDEX --make /tmp/made --dtype float16 --parts ours,graph,ann

Every part adds its figures to `--out` under the name of the set; `--table` prints them all.
Queries are failures, searched among failures unless a key says "all"; recall is the share of the
exact 10 nearest that a path returns. Peak memory is that of anonymous pages, without the page
cache under mapped files.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import search_others as others
from benchmarks.made_profiles import made_store
from benchmarks.search_ground import (
    BATCH,
    MANY,
    Figures,
    Ground,
    K,
    anonymous_peak,
    once,
    repeated,
    timed,
)
from indexer.store import Store
from search import cache
from search.ann import build_ann, open_ann
from search.cosine import exact_search
from search.predicates import FAILURES, to_sql
from search.snapshot import snapshot
from search.stored_graph import neighbour_graph

EXTRAPOLATED = (1_300_000, 26_560, 0.2)
"""Rows, filters and share of failures of ImageNet's training set under ResNet-50."""


def ours(ground: Ground) -> Figures:
    """Exact search: single queries, batches, memory."""
    many = ground.version.column.rows(ground.version.failures[:MANY])
    batch = many[:BATCH]
    with anonymous_peak() as memory:
        figures: Figures = {
            "exact": timed(lambda n: ground.exact(ground.queries[n : n + 1])),
            "exact all": timed(lambda n: ground.exact(ground.queries[n : n + 1], "all"), 20),
            f"{BATCH} at once": repeated(lambda: ground.exact(batch)),
            f"{BATCH} at once, all": repeated(lambda: ground.exact(batch, "all")),
            f"{len(many)} at once": repeated(lambda: ground.exact(many)),
        }
    return {**figures, "exact_peak_mb": memory["peak_mb"]}


def graph(ground: Ground) -> Figures:
    """The graph of all failures, from the mapped column to scores; checked in float32."""
    cache.clear(ground.store)
    store = Store.open(ground.store.path)
    _ = snapshot(store).norms
    with anonymous_peak() as memory:
        seconds, found = once(lambda: neighbour_graph(store, k=K))
    places = {name: row for row, name in enumerate(found.ids)}
    same = []
    for position in ground.chosen:
        query = ground.version.column.rows(position[None])
        (hits,) = exact_search(
            ground.version.profiles(),
            query,
            K,
            among=ground.version.failures,
            exclude=[position[None]],
        )
        row = found.indices[places[ground.version.ids(position[None])[0]]]
        names = ground.version.ids(hits.positions)
        same.append(len({places[name] for name in names} & set(row.tolist())) / K)
    recall = float(np.mean(same))
    return {
        "graph": {"rows": len(found), "seconds": seconds, "recall": recall, **memory},
    }


def ann(ground: Ground) -> Figures:
    """Our approximate path: IVF_RQ over all partitions, re-ranked from the mapped column."""
    with anonymous_peak() as building:
        seconds, report = once(lambda: build_ann(ground.store))
    index = open_ann(snapshot(ground.store))
    if index is None:
        raise RuntimeError("the index just built does not open")
    where, among = to_sql([FAILURES]), snapshot(ground.store).failures

    def search(number: int) -> Any:
        return index.search(ground.queries[number], K, where=where, among=among)

    found = [search(number) for number in range(len(ground.queries))]
    times = timed(search)
    everything = timed(lambda n: index.search(ground.queries[n], K))
    return {
        "IVF_RQ, ours": {
            **times,
            "recall": ground.recall([set(item.hits.positions.tolist()) for item in found]),
            "complete": float(np.mean([item.complete for item in found])),
            "build_s": report.seconds,
            "measure_s": seconds - report.seconds,
            "bytes": report.bytes,
            "bound": report.bound,
            "build_peak_mb": building["peak_mb"],
        },
        "IVF_RQ, ours, all": everything,
    }


def memory(ground: Ground) -> Figures:
    """What a process takes that only searches: measured where this part runs alone."""
    index = open_ann(ground.version)
    with anonymous_peak() as peak:
        for query in ground.queries:
            for among in ("failures", "all"):
                ground.exact(query[None], among)
            if index is not None:
                index.search(query, K, where=to_sql([FAILURES]), among=ground.version.failures)
        ground.exact(np.repeat(ground.queries, 2, axis=0)[:BATCH], "all")
    return {"all of ours, alone": peak}


PARTS = {
    "ours": ours, "graph": graph, "ann": ann, "memory": memory,
    "flat": others.flat, "pq": others.pq,
    "faiss": others.faiss, "hnswlib": others.hnswlib, "usearch": others.usearch,
}  # fmt: skip


def extrapolation(results: Figures) -> Figures:
    """Return what the figures of the largest set mean for 1.3 million ResNet-50 profiles.

    Assumes that profiles are stored as there and lie in the page cache, that exact search and the
    approximate index take time and bytes in proportion to rows times filters, and the graph to
    failures squared times filters, and a share of failures as of ImageNet's training set.
    """
    name, figures = max(results.items(), key=lambda item: item[1]["rows"] * item[1]["units"])
    rows, units, share = EXTRAPOLATED
    failures = int(share * rows)
    wider = units / figures["units"]
    by_row, by_failure = wider * rows / figures["rows"], wider * failures / figures["failures"]
    size = np.dtype(figures["dtype"]).itemsize
    found: Figures = {"from": name, "rows": rows, "units": units, "failures": failures}
    found |= {"profiles_gb": rows * units * size / 1e9}
    found |= {"profiles_of_failures_gb": failures * units * size / 1e9}
    if "exact" in figures:
        found["exact_s"] = figures["exact"]["p50_ms"] * by_failure / 1e3
        found["exact_all_s"] = figures["exact all"]["p50_ms"] * by_row / 1e3
    if "graph" in figures:
        found["graph_h"] = figures["graph"]["seconds"] * by_failure**2 / wider / 3600
    if "IVF_RQ, ours" in figures:
        index = figures["IVF_RQ, ours"]
        found["ann_s"] = index["p50_ms"] * by_row / 1e3
        found["ann_all_s"] = figures["IVF_RQ, ours, all"]["p50_ms"] * by_row / 1e3
        found["ann_gb"] = index["bytes"] * by_row / 1e9
        found["ann_build_h"] = index["build_s"] * by_row / 3600
    return found


def to_markdown(results: Figures) -> str:
    """Return one table of all sets."""
    lines = [
        "| set | path | p50 ms | p99 ms | recall@10 | seconds | build s | MB | peak MB |",
        "|" + "---|" * 9,
    ]
    for name, figures in results.items():
        for path, values in figures.items():
            if not isinstance(values, dict):
                continue
            cells = [
                *(_cell(values, key, 1) for key in ("p50_ms", "p99_ms")),
                *(_cell(values, key, 4) for key in ("recall",)),
                *(_cell(values, key, 2) for key in ("seconds", "build_s")),
                f"{values['bytes'] / 1e6:.0f}" if "bytes" in values else "",
                _cell(values, "peak_mb", 0),
            ]
            lines.append(f"| {name} | {path} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: Figures, key: str, digits: int) -> str:
    return f"{values[key]:.{digits}f}" if key in values else ""


def main() -> None:
    """Measure the parts asked for and merge their figures into the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("index", type=Path, help="a database; `ann` and `pq` write to it")
    parser.add_argument("--make", type=Path, help="make a larger set of it here, once")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--units", type=int, default=26_560)
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    parser.add_argument("--parts", default="", help=",".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search.json"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    results.pop("extrapolation", None)
    if options.parts:
        ground = Ground(_opened(options))
        column, failures = ground.version.column, len(ground.version.failures)
        kind = "real" if options.make is None else "made"
        figures = results.setdefault(f"{len(column)} x {column.width} {kind}", {})
        figures |= {"rows": len(column), "units": column.width, "failures": failures}
        figures |= {"dtype": str(column.dtype), "cache_bytes": cache.size(ground.store)}
        for part in options.parts.split(","):
            figures |= PARTS[part](ground)
            print(part, json.dumps(figures, indent=1), flush=True)
            _write({**results, "extrapolation": extrapolation(results)}, options.out)
    if options.table:
        print(to_markdown(results))


def _opened(options: argparse.Namespace) -> Store:
    store = Store.open(options.index)
    if options.make is None:
        return store
    if (options.make / "samples.lance").exists():
        return Store.open(options.make)
    return made_store(store, options.make, options.rows, options.units, options.dtype)


def _write(results: Figures, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
