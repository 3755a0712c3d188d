"""One HTML page of a run: what came through every stage and why not, how the pairs measure, and pairs to see and hear.

Legend: F frames, H/W height/width, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from datagen import dataset, filter, inpaint, lips
from datagen.film import put
from datagen.job import DatagenJob
from datagen.script import Script
from datagen.tools import Tools
from justdub.errors import BadInputError
from justdub.evaluation.report import svg
from justdub.evaluation.report.embedded import jpeg, player
from justdub.evaluation.report.page import STYLE
from justdub.media.picture import Glance, draw

_WIDE = ".reasons th:last-child,.reasons td:last-child{text-align:left;white-space:normal;min-width:16rem}"
_PLAYED, _SHOWN, _COLUMNS = 12, 24, 6


def write(job: DatagenJob, output: Path | None = None, *, progress: Callable[[str, int, int], None]) -> Path:
    """The page of a run, wherever it stands.

    Raises:
        BadInputError: nothing was made yet.
    """
    tools = Tools(job)
    table, pairs = dataset.yields(tools), dataset.pairs(tools)
    if not any(done or lost for _, done, lost, _ in table):
        raise BadInputError(f"{tools.root} holds no run", remedy="python -m datagen run CONFIG")
    path = output or tools.root / "report.html"
    accepted = [pair for pair in pairs if pair["accepted"]]
    parts = [
        f"<h1>{escape(tools.root.name)}: pairs made by the backbone</h1>",
        f"<p>{len(accepted)} of {len(pairs)} pairs accepted, from {job.clips} scripts.</p>",
        _yields(table), _reasons(pairs), _languages(tools, accepted), _histograms(pairs), _lips(tools),
    ]  # fmt: skip
    shown = (accepted or pairs)[:_SHOWN]
    for done, pair in enumerate(shown, 1):
        parts.append(_pair(tools, pair, played=done <= _PLAYED))
        progress("report", done, len(shown))
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(tools.root.name)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{_WIDE}</style></head><body>'
        + "\n".join(part for part in parts if part)
        + "</body></html>\n"
    )
    put(path, page.encode())
    return path


def _rows(head: list[str], rows: list[list[Any]], kind: str = "") -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _yields(table: list) -> str:
    rows = [
        [stage, done, lost, "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(5))]
        for stage, done, lost, reasons in table
    ]
    return "<h2>Yield</h2>" + _rows(["stage", "clips done", "rejected", "reasons"], rows, "reasons")


def _reasons(pairs: list[dict]) -> str:
    counts: dict[str, int] = {}
    for pair in pairs:
        for reason in pair["reasons"]:
            name = reason.split(" ")[0]
            counts[name] = counts.get(name, 0) + 1
    if not counts:
        return ""
    rows = [[name, count, f"{count / len(pairs):.0%}"] for name, count in sorted(counts.items(), key=lambda x: -x[1])]
    return "<h2>Why pairs were turned down</h2>" + _rows(["measure outside its limits", "pairs", "of all"], rows)


def _languages(tools: Tools, accepted: list[dict]) -> str:
    counts: dict[tuple[str, str], int] = {}
    for pair in accepted:
        half = Script.of(tools.store("script").usable(pair["number"])).halves[pair["place"]]
        way = (half.other.language, half.line.language)
        counts[way] = counts.get(way, 0) + 1
    codes = sorted({code for way in counts for code in way})
    rows = [[one, *(counts.get((one, other), "") for other in codes)] for one in codes]
    return "<h2>Accepted, from (rows) to (columns)</h2>" + _rows(["", *codes], rows) if rows else ""


def _histograms(pairs: list[dict]) -> str:
    names = list(dict.fromkeys(name for pair in pairs for name in pair["measures"]))
    plots = [svg.histogram(name, [p["measures"][name] for p in pairs if name in p["measures"]], "") for name in names]
    return '<h2>Measures of all pairs</h2><div class="pair">' + "".join(plots) + "</div>" if plots else ""


def _lips(tools: Tools) -> str:
    """Spread of the mouth aspect ratio before and after augmentation."""
    store = tools.store("lips")
    halves = [
        half for n in store.numbers() if (facts := store.usable(n)) for half in facts["halves"] if half["augmented"]
    ]
    both = [(h["spread_before"], h["spread_after"]) for h in halves if h["spread_before"] and h.get("spread_after")]
    if not both:
        return ""
    before, after = np.mean(both, axis=0)
    return (
        f"<h2>Lip augmentation</h2><p>{len(both)} references: the spread of the mouth aspect ratio went from "
        f"{before:.4f} to {after:.4f} ({after / before:.2f} times).</p>"
    )


def _pair(tools: Tools, pair: dict, *, played: bool) -> str:
    number, place = pair["number"], pair["place"]
    script = Script.of(tools.store("script").usable(number))
    half = script.halves[place]
    span = inpaint.spans(tools, number)[place]
    whole = tools.read(tools.store("generate").path(number, ".mp4"))
    target, path = inpaint.part(whole, span), lips.reference(tools, number, place)
    reference = tools.read(path)
    places = np.linspace(0, span.count - 1, _COLUMNS + 2).round().astype(int)[1:-1]
    mask_FHW = filter.changing(tools, number, len(whole.frames))[span.first : span.first + span.count]
    tinted = np.where(mask_FHW[..., None], (reference.frames // 2 + np.uint8((0, 100, 0))), reference.frames)
    sheet = draw([
        Glance(reference.frames[places], reference.samples), Glance(target.frames[places], target.samples),
        Glance(tinted[places], np.zeros(16000, np.float32)),
    ])  # fmt: skip
    measures = ", ".join(f"{name} {value:g}" for name, value in pair["measures"].items())
    said = f"{half.other.language}: {half.other.text} → {half.line.language}: {half.line.text}"
    reasons = f'<p class="fault">{escape("; ".join(pair["reasons"]))}</p>' if pair["reasons"] else ""
    videos = ""
    if played:
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="justdub-") as folder:
            own = Path(folder) / "target.mp4"
            put(own, tools.encode(target))
            videos = "".join(f'<video controls src="{player(clip)}"></video>' for clip in (path, own))
    return (
        f'<div class="clip"><h3>{number:06d}, half {place + 1}</h3><p>{escape(said)}</p>{reasons}'
        f'<p class="soft">{escape(measures)}</p><div class="pair">{videos}<img src="{jpeg(sheet)}" '
        f'alt="reference, target, mask"></div></div>'
    )
