"""What was measured: rows, the file they are kept in, and the table. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from justdub.errors import BadInputError

RATE_OF = {"bf16": "matmul bf16", "fp8": "matmul bf16", "fp32": "matmul fp32"}  # fp8 weights, bf16 products
COPY = "copy"


@dataclass(frozen=True)
class Row:
    """One thing that was measured, or why it was not.

    Attributes:
        part: of the benchmark. name, dtype, mode: what within it.
        median_ms, low_ms, high_ms: median and quartiles.
        ratio: median over the rounds of this time to that of the group's first row in the same round.
        flops: of all its matrix products. bytes: that they read and write, each operand once.
        peak_bytes: of device memory, of a run with only what it needs. estimate_bytes: what was foretold.
        note: what else was seen. failed: why there is no time.
    """

    part: str
    name: str
    dtype: str = ""
    mode: str = ""
    median_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    repeats: int = 0
    ratio: float | None = None
    flops: float = 0.0
    bytes: float = 0.0
    peak_bytes: int | None = None
    estimate_bytes: int | None = None
    note: str = ""
    failed: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.part, self.name, self.dtype, self.mode

    @property
    def flop_rate(self) -> float:
        """Floating-point operations per second."""
        return self.flops / self.median_ms * 1e3 if self.median_ms else 0.0

    @property
    def byte_rate(self) -> float:
        return self.bytes / self.median_ms * 1e3 if self.median_ms else 0.0


@dataclass
class Report:
    """Rows and where they come from: device, versions, commit, date, command, settings."""

    about: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Atomic: a run that is killed leaves the parts that it finished."""
        text = json.dumps({"about": self.about, "rows": [asdict(row) for row in self.rows]}, indent=1)
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> Report:
        """Raises:
        BadInputError: not a file that `write` made.
        """
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            known = {one.name for one in fields(Row)}
            rows = [Row(**{key: value for key, value in row.items() if key in known}) for row in raw["rows"]]
            return cls(dict(raw["about"]), rows)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInputError(f"{path} holds no measurements ({error})", expected="a file of --out") from error

    def find(self, part: str, name: str, dtype: str = "", mode: str = "") -> Row | None:
        """The row, if it has a time."""
        for row in self.rows:
            if row.key == (part, name, dtype, mode) and row.median_ms is not None:
                return row
        return None

    def utilisation(self, row: Row) -> float | None:
        """Counted operations per second, of what the device's large matrix product reached."""
        ceiling = self.find("ceiling", RATE_OF.get(row.dtype, ""))
        if row.part == "ceiling" or not row.flop_rate or ceiling is None:
            return None
        return row.flop_rate / ceiling.flop_rate

    def traffic(self, row: Row) -> float | None:
        """Counted bytes per second, of what the device's large copy reached."""
        ceiling = self.find("ceiling", COPY)
        if row.part == "ceiling" or not row.byte_rate or ceiling is None:
            return None
        return row.byte_rate / ceiling.byte_rate


def join(reports: Sequence[Report]) -> Report:
    """Several runs as one: a later run's row replaces an earlier one's, unless it failed where that did not."""
    about: dict[str, str] = {}
    rows: dict[tuple[str, str, str, str], Row] = {}
    for report in reports:
        for key, value in report.about.items():
            about[key] = value if about.get(key, value) == value else f"{about[key]}; {value}"
        for row in report.rows:
            if row.key not in rows or not row.failed or rows[row.key].failed:
                rows[row.key] = row
    return Report(about, list(rows.values()))


HEADINGS = ("part", "what", "dtype", "mode", "ms", "quartiles", "ratio", "FLOPs", "util.", "traffic", "peak", "note")


def table(report: Report) -> str:
    """Markdown: where it comes from, the rows, and a legend."""
    lines = [f"- {key}: {value}" for key, value in report.about.items()]
    cells = [HEADINGS, *(_cells(report, row) for row in report.rows)]
    lines += ["", *aligned(cells)]
    lines += [
        "",
        "ratio: to the first row of its group, in the same round. FLOPs: counted, of matrix products. util.: of the "
        "measured matrix product. traffic: counted bytes per second, of the measured copy. peak: GiB.",
    ]
    return "\n".join(lines)


def aligned(cells: Iterable[Sequence[str]]) -> list[str]:
    """Rows of a Markdown table, the first its head."""
    grid = [list(row) for row in cells]
    widths = [max(len(row[column]) for row in grid) for column in range(len(grid[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in grid
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def _cells(report: Report, row: Row) -> tuple[str, ...]:
    head = (row.part, row.name, row.dtype, row.mode)
    if row.median_ms is None:
        return (*head, *[""] * 7, f"FAILED: {row.failed}".replace("|", "/"))
    note = row.note
    if row.part == "ceiling":
        note = f"{row.flop_rate / 1e12:.4g} TFLOP/s" if row.flops else f"{row.byte_rate / 1e9:.4g} GB/s"
    elif row.estimate_bytes and row.peak_bytes:
        note = f"{note}; " * bool(note) + f"estimate {row.estimate_bytes / 2**30:.4g} GiB"
    return (
        *head,
        _number(row.median_ms),
        f"{_number(row.low_ms)} .. {_number(row.high_ms)}",
        _share(row.ratio),
        f"{row.flops:.3g}" if row.flops else "",
        _share(report.utilisation(row)),
        _share(report.traffic(row)),
        f"{row.peak_bytes / 2**30:.2f}" if row.peak_bytes is not None else "",
        note.replace("|", "/"),
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
