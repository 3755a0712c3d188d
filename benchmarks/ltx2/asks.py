"""What is asked of the measurements, and whether it was met."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.ltx2.report import Report, Row, aligned


@dataclass(frozen=True)
class Ask:
    """value: None where it was not measured."""

    what: str
    limit: float
    value: float | None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        return "met" if (self.value >= self.limit if self.at_least else self.value <= self.limit) else "MISSED"


def asks(report: Report) -> list[Ask]:
    """At 960x544x121 (training: 640x352x121) and full scale; elsewhere they say nothing about the model."""
    found = []
    for mode in ("eager", "compiled"):
        cached = report.find("step", "isolated + cached", "bf16", mode)
        found.append(Ask(f"isolated + cached / masked, bf16 {mode}", 0.55, cached.ratio if cached else None))
    for mode, limit in (("eager", 0.5), ("compiled", 0.6)):
        sliced = report.find("step", "sliced", "bf16", mode)
        value = report.utilisation(sliced) if sliced else None
        found.append(Ask(f"utilisation of the sliced step, bf16 {mode}", limit, value, at_least=True))
    for dtype in ("bf16", "fp8"):
        for mode in ("checkpointing", "no checkpointing"):
            ours = report.find("train", "sliced", dtype, mode)
            found.append(Ask(f"update / stock diffusers + peft, {dtype} {mode}", 1.0, ours.ratio if ours else None))
    swap = report.find("swap", "swap, file read before", "bf16")
    found.append(Ask("hot swap, s", 1.0, swap.median_ms / 1e3 if swap and swap.median_ms else None))
    for row in report.rows:
        if row.estimate_bytes and row.peak_bytes:
            found.append(Ask(f"estimate of memory, off the peak: {_name(row)}", 0.1, _off(row)))
    if not any(ask.what.startswith("estimate") for ask in found):
        found.append(Ask("estimate of memory, off the peak", 0.1, None))
    return found


def table(report: Report) -> str:
    rows = [("asked", "limit", "measured", "verdict")]
    for ask in asks(report):
        limit = f"{'>=' if ask.at_least else '<='} {ask.limit:g}"
        rows.append((ask.what, limit, "" if ask.value is None else f"{ask.value:.3f}", ask.verdict))
    return "\n".join(aligned(rows))


def _name(row: Row) -> str:
    return f"{row.part} {row.name}, {row.dtype} {row.mode}".rstrip()


def _off(row: Row) -> float:
    return abs(row.estimate_bytes / row.peak_bytes - 1) if row.estimate_bytes and row.peak_bytes else 0.0
