"""Findings of an audit: what is suspected, why, and where to look."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from indexer.errors import AbsentError
from indexer.schema import FINDINGS

from ..outdated import CAUSES, FILTERS, is_outdated
from .settings import KINDS, LEAKS

if TYPE_CHECKING:
    import pandas as pd

    from indexer.store import Store

_BEYOND = b"beyond"
"""Key of the stored table's metadata: by kind, how many were found beyond those kept."""
FINDING_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("rank", pa.int32()),
        pa.field("score", pa.float64()),
        pa.field("subject", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("label_name", pa.string()),
        pa.field("suggested_name", pa.string()),
        pa.field("suggested_probability", pa.float64()),
        pa.field("samples", pa.list_(pa.string())),
        pa.field("evidence", pa.string()),
    ]
)


@dataclass(frozen=True)
class Finding:
    """One suspect.

    Attributes:
        kind: one of `KINDS` or `EXTRAS`, `LEAKS`, or of a later version.
        score: how strongly it is suspected; the higher the worse, comparable within a kind.
        subject: a sample id, a mode id, or a filter as layer:index.
        samples: ids to look at, the most telling first.
        reason: one sentence that a person can check by looking.
        evidence: figures and ids behind the reason, JSON-ready; keys depend on the kind.
        label_name: given label of the subject, where another is suggested.
        suggested_name: label it should rather have.
        suggested_probability: of the suggested label, in 0..1.
    """

    kind: str
    score: float
    subject: str
    samples: tuple[str, ...]
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)
    label_name: str | None = None
    suggested_name: str | None = None
    suggested_probability: float | None = None

    def __post_init__(self) -> None:
        if not self.kind:
            raise ValueError("a finding needs a kind")
        if not self.reason or "\n" in self.reason:
            raise ValueError(f"a finding needs a reason of one line, not {self.reason!r}")

    @property
    def modes(self) -> tuple[str, ...]:
        """Ids of the modes that it speaks of: a cause of one, a weak filter of those it serves."""
        if self.kind == CAUSES:
            return (self.subject,)
        if self.kind == FILTERS:
            return tuple(mode["id"] for mode in self.evidence.get("modes", ()))
        return ()

    @property
    def copied_labels(self) -> tuple[str, ...] | None:
        """Given labels of images that are copies of one another; None of other findings."""
        labels = self.evidence.get("labels")
        return None if labels is None else tuple(labels)

    @property
    def beside(self) -> tuple[str, ...]:
        """Correct samples that `samples` are compared with, one by one; only of a shared cause."""
        return tuple(pair["correct"] for pair in self.evidence.get("pairs", ()))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; the label fields only where they are set."""
        document: dict[str, Any] = {
            "kind": self.kind,
            "score": self.score,
            "subject": self.subject,
            "reason": self.reason,
            "samples": list(self.samples),
            "evidence": self.evidence,
        }
        for name in ("label_name", "suggested_name", "suggested_probability"):
            if getattr(self, name) is not None:
                document[name] = getattr(self, name)
        return document


@dataclass(frozen=True)
class AuditReport:
    """Findings of an audit, by kind in the order asked and from the strongest on.

    Attributes:
        findings: those that were kept.
        kinds: what was looked for; leaks first.
        totals: how many were found of a kind, kept or not; only where that is known.
    """

    findings: tuple[Finding, ...]
    kinds: tuple[str, ...]
    totals: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in self.kinds:
            scores = [finding.score for finding in self.of(kind)]
            if scores != sorted(scores, reverse=True):
                raise ValueError(f"findings of kind {kind} are not ordered by score")
            if self.totals.get(kind, len(scores)) < len(scores):
                raise ValueError(f"{len(scores)} of {self.totals[kind]} findings of kind {kind}")
        if {finding.kind for finding in self.findings} - set(self.kinds):
            raise ValueError("a finding of a kind that was not asked for")

    def __len__(self) -> int:
        return len(self.findings)

    def of(self, kind: str) -> tuple[Finding, ...]:
        """Return the findings of one kind, strongest first."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def total(self, kind: str) -> int:
        """Return how many findings of a kind there are, kept or not, as far as is known."""
        return self.totals.get(kind, len(self.of(kind)))

    def without_outdated(self, changed: set[str]) -> "AuditReport":
        """Return the report without the findings that speak of modes that have changed."""
        kept = tuple(f for f in self.findings if not is_outdated(f.kind, f.subject, changed))
        gone = Counter(f.kind for f in self.findings) - Counter(f.kind for f in kept)
        left = {f.kind for f in kept}
        totals = {
            kind: total - gone[kind]
            for kind, total in self.totals.items()
            if kind in left or not gone[kind]  # of those not kept it is not known
        }
        return AuditReport(kept, self.kinds, totals)

    def to_json(self) -> dict[str, Any]:
        """Return {findings: {kind: […]}, totals: {kind: …}}, JSON-ready."""
        found = {kind: [f.to_json() for f in self.of(kind)] for kind in self.kinds}
        return {"findings": found, "totals": dict(self.totals)}

    def to_arrow(self) -> pa.Table:
        """Return one row a finding, ranked from 1 within its kind; evidence as JSON text."""
        rows = []
        for kind in self.kinds:
            for rank, finding in enumerate(self.of(kind), start=1):
                evidence = json.dumps(finding.evidence)
                rows.append(finding.to_json() | {"rank": rank, "evidence": evidence})
        return pa.Table.from_pylist(rows, schema=FINDING_SCHEMA)

    def to_pandas(self) -> "pd.DataFrame":
        """Return `to_arrow` as a data frame; needs pandas."""
        return self.to_arrow().to_pandas()

    def _repr_html_(self) -> str:
        rows = "".join(
            _html_row((f.kind, f"{f.score:.3f}", f.subject, f.reason)) for f in self.findings
        )
        head = "".join(f"<th>{title}</th>" for title in ("kind", "score", "subject", "reason"))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def write_findings(store: "Store", report: AuditReport) -> None:
    """Store a report; findings of other kinds that an earlier audit stored stay."""
    with store.writer():
        table = report.to_arrow()
        beyond = {kind: total - len(report.of(kind)) for kind, total in report.totals.items()}
        earlier = store.read_table(FINDINGS)
        if earlier is not None:
            kept = [kind not in report.kinds for kind in earlier["kind"].to_pylist()]
            table = pa.concat_tables([earlier.filter(pa.array(kept, pa.bool_())), table])
            known = _read_beyond(earlier)
            beyond |= {kind: known[kind] for kind in known if kind not in report.kinds}
        store.write_table(FINDINGS, table.replace_schema_metadata({_BEYOND: json.dumps(beyond)}))


def read_findings(store: "Store") -> AuditReport:
    """Return the stored findings; raises AbsentError where there never was an audit.

    The kinds are leaks where there are any, `KINDS`, whether or not they were found, and then
    whatever else is stored.
    """
    table = store.read_table(FINDINGS)
    if table is None:
        raise AbsentError(f"{store.path} has no findings yet: run `failsearch audit`")
    findings = []
    for row in table.to_pylist():
        del row["rank"]
        evidence = json.loads(row.pop("evidence"))
        findings.append(Finding(**row | {"samples": tuple(row["samples"]), "evidence": evidence}))
    stored = Counter(finding.kind for finding in findings)
    kinds = dict.fromkeys((*stored.keys() & {LEAKS}, *KINDS, *stored))
    beyond = _read_beyond(table)
    totals = {kind: count + beyond[kind] for kind, count in stored.items() if kind in beyond}
    return AuditReport(tuple(findings), tuple(kinds), totals)


def _read_beyond(table: pa.Table) -> dict[str, int]:
    """Return how many were found beyond those stored; {} of a table of earlier versions."""
    return json.loads((table.schema.metadata or {}).get(_BEYOND, b"{}"))


def _html_row(cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
