"""What cleanlab says of an index, merged into the findings; needs the extra `audit`."""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.errors import SettingError

from .exchange import CleanlabInputs, cleanlab_inputs
from .report import Finding
from .settings import CLEANLAB, DUPLICATES, LABELS

if TYPE_CHECKING:
    import pandas as pd

    from indexer.store import Store

LABEL, OUTLIER, DUPLICATE = "label", "outlier", "near_duplicate"


def with_cleanlab(
    store: "Store", findings: Sequence[Finding], top: int
) -> tuple[list[Finding], int]:
    """Run cleanlab's Datalab on the index and merge what it finds into an audit's findings.

    It is given our probabilities and our neighbour graph of embeddings. A label suspect of the
    audit says whether cleanlab agrees; what cleanlab alone suspects (labels, outliers,
    near-duplicates by embedding, a group each) becomes a finding of kind "cleanlab".

    Args:
        store: the index.
        findings: of the audit so far.
        top: findings of kind "cleanlab" at most, shared evenly among the three issues.

    Returns:
        all findings, and how many of kind "cleanlab" there are in all.

    Raises:
        SettingError: cleanlab or a package it needs is not installed.
    """
    inputs = cleanlab_inputs(store)
    issues = find_issues(inputs)
    row = {sample: position for position, sample in enumerate(inputs.ids)}
    merged = [
        _judged(finding, issues[LABEL].iloc[row[finding.subject]].to_dict())
        if finding.kind == LABELS and LABEL in issues
        else finding
        for finding in findings
    ]
    known = {finding.subject for finding in findings if finding.kind == LABELS}
    alike = [set(finding.samples) for finding in findings if finding.kind == DUPLICATES]
    own: list[Finding] = []
    total = 0
    for issue, table in issues.items():
        scores = table[f"{issue}_score"].to_numpy()
        flagged = np.flatnonzero(table[f"is_{issue}_issue"].to_numpy())
        worst = flagged[np.argsort(scores[flagged], kind="stable")]
        suspects = (i for i in worst if issue != LABEL or inputs.ids[i] not in known)
        described = _described(issue, table, inputs, store.manifest.classes, suspects)
        found = list(_new_groups(described, alike) if issue == DUPLICATE else described)
        total += len(found)
        own += found[: -(-top // 3)]
    return merged + sorted(own, key=lambda finding: -finding.score)[:top], total


def load_datalab() -> Any:
    """Return cleanlab's `Datalab`; raises SettingError where a package for it is missing."""
    try:
        import datasets  # noqa: F401 - Datalab keeps its data in one
        from cleanlab import Datalab
    except ImportError as error:
        raise SettingError(
            f"cleanlab cannot be used ({error}): pip install 'failsearch[audit]'"
        ) from error
    return Datalab


def find_issues(inputs: CleanlabInputs) -> dict[str, "pd.DataFrame"]:
    """Return cleanlab's table of each issue, a row a sample.

    Issues that cleanlab cannot judge are left out: outliers and near-duplicates without a graph,
    labels where all are of one class. What else it declines it says on stderr.
    """
    # Classes without a sample are unknown to cleanlab, which numbers those that it sees.
    seen, labels = np.unique(inputs.labels, return_inverse=True)
    wanted = [LABEL] if len(seen) > 1 else []
    wanted += [OUTLIER, DUPLICATE] if inputs.knn_graph is not None else []
    if not wanted:
        return {}
    lab = load_datalab()({"label": labels}, label_name="label", verbosity=0)
    p = np.maximum(inputs.pred_probs[:, seen], 1e-12)
    # cleanlab 2.9 uses arguments that pandas 3 deprecates, and prints what it does.
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        lab.find_issues(
            pred_probs=p / p.sum(1, keepdims=True),
            knn_graph=inputs.knn_graph,
            issue_types={issue: {} for issue in wanted},
        )
    judged = set(lab.get_issue_summary()["issue_type"])
    tables = {issue: lab.get_issues(issue) for issue in wanted if issue in judged}
    if LABEL in tables:
        tables[LABEL]["predicted_label"] = seen[tables[LABEL]["predicted_label"].to_numpy()]
    return tables


def _judged(finding: Finding, row: Mapping[str, Any]) -> Finding:
    quality, flagged = float(row["label_score"]), bool(row["is_label_issue"])
    opinion = "agrees" if flagged else "does not suspect it"
    return replace(
        finding,
        reason=f"{finding.reason}; cleanlab {opinion} (label quality {quality:.2f} of 1)",
        evidence=finding.evidence | {"cleanlab": {"label_score": quality, "is_issue": flagged}},
    )


def _described(
    issue: str,
    table: "pd.DataFrame",
    inputs: CleanlabInputs,
    classes: Sequence[str],
    suspects: Iterator[np.intp],
) -> Iterator[Finding]:
    for i in suspects:
        row = table.iloc[int(i)].to_dict()
        quality = float(row[f"{issue}_score"])
        near: tuple[str, ...] = ()
        extra: dict[str, Any] = {}
        evidence: dict[str, Any] = {"issue": issue, "cleanlab_score": quality}
        if issue == LABEL:
            given, other = classes[inputs.labels[i]], classes[int(row["predicted_label"])]
            extra = {"label_name": given, "suggested_name": other}
            reason = f"labelled {given}, which cleanlab takes for wrong and {other} for right"
        elif issue == OUTLIER:
            near = _nearest(inputs, i, 5)
            reason = "unlike every other image: even its nearest ones by embedding are far away"
        else:
            group = row["near_duplicate_sets"]
            near = tuple(inputs.ids[j] for j in group)
            evidence["labels"] = [classes[inputs.labels[j]] for j in (i, *group)]
            reason = f"nearly the same to the model as {', '.join(near[:3])}"
        yield Finding(
            kind=CLEANLAB,
            score=1 - quality,
            subject=inputs.ids[i],
            samples=(inputs.ids[i], *near),
            reason=f"{reason} ({issue.replace('_', ' ')} score {quality:.2g} of 1)",
            evidence=evidence,
            **extra,
        )


def _new_groups(found: Iterator[Finding], known: list[set[str]]) -> Iterator[Finding]:
    """Leave out groups within a known one: cleanlab names each pair twice, once from each side."""
    groups: dict[str, list[set[str]]] = {}  # by member: comparing all with all takes too long
    for members in known:
        _remember(members, groups)
    for finding in found:
        of_first = groups.get(finding.samples[0], [])
        if not any(members.issuperset(finding.samples) for members in of_first):
            _remember(set(finding.samples), groups)
            yield finding


def _remember(members: set[str], groups: dict[str, list[set[str]]]) -> None:
    for member in members:
        groups.setdefault(member, []).append(members)


def _nearest(inputs: CleanlabInputs, i: np.intp, count: int) -> tuple[str, ...]:
    graph = inputs.knn_graph
    if graph is None:
        return ()
    start = graph.indptr[i]
    return tuple(inputs.ids[j] for j in graph.indices[start : start + count])
