"""Spans as people look at them: trees of traces."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanSeen:
    """A span, however it reached the test."""

    name: str
    kind: str
    process: str
    trace_id: int
    span_id: int
    parent_id: int | None
    started: int
    attributes: Mapping[str, Any]
    is_error: bool = False
    links: Mapping[int, str] = field(default_factory=dict)
    """Ids of spans, and what leads there."""


def tree(spans: Iterable[SpanSeen], *, leave_out: Sequence[str] = ()) -> str:
    """Print traces, the oldest first: a line a span, below the one that it is part of."""
    known = sorted(spans, key=lambda span: (span.started, span.span_id))
    ids = {span.span_id for span in known}
    lines: list[str] = []

    def show(span: SpanSeen, depth: int) -> None:
        lines.append("  " * depth + _line(span, known, leave_out))
        for other in known:
            if other.parent_id == span.span_id:
                show(other, depth + 1)

    for span in known:
        if span.parent_id not in ids:
            show(span, 0)
    return "\n".join(lines)


def _line(span: SpanSeen, known: Sequence[SpanSeen], leave_out: Sequence[str]) -> str:
    names = {each.span_id: each for each in known}
    told = [
        f"{name.rpartition('.')[2]}={value}"
        for name, value in span.attributes.items()
        if name.startswith(("tallyman.", "error.")) and not any(part in name for part in leave_out)
    ]
    links = [
        f"-> {names[to].name} ({why})" if to in names else f"-> elsewhere ({why})"
        for to, why in span.links.items()
    ]
    words = [span.name, f"[{span.process} {span.kind}]", *told, *links]
    return " ".join([*words, "ERROR"] if span.is_error else words)
