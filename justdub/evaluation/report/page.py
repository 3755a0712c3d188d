"""One self-contained HTML page of a run: nothing is loaded from elsewhere.

Legend: F frames.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np

from justdub.errors import JustDubError
from justdub.evaluation import literature, pairing, table
from justdub.evaluation.cache import Cache
from justdub.evaluation.metric import Better
from justdub.evaluation.metrics.lips import envelope
from justdub.evaluation.metrics.mouth import opening
from justdub.evaluation.report import svg
from justdub.evaluation.report.embedded import jpeg, player
from justdub.evaluation.results import ClipResult, Results, groups, summary, write_text
from justdub.evaluation.sample import Clip, Sample
from justdub.evaluation.settings import EvalSettings
from justdub.evaluation.tools import Tools
from justdub.media.picture import draw, glance

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem}h3{font-size:1rem}
table{border-collapse:collapse;font-size:13px;margin:.6rem 0}
th,td{border-bottom:1px solid var(--line);padding:.25rem .6rem;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal}thead th{background:var(--soft)}
small,.soft{color:#888}.scroll{overflow-x:auto}.pair{display:flex;gap:1rem;flex-wrap:wrap;align-items:flex-start}
video,img{max-width:100%;border-radius:4px}video{height:240px;background:#000}
.clip{border-top:1px solid var(--line);padding:.8rem 0}.fault{color:#dc2626}
svg text{font:11px system-ui,sans-serif;fill:currentColor}svg .title{font-weight:600;font-size:12px}
svg .plot,svg .ring{fill:none;stroke:var(--line)}svg .axis{stroke:currentColor}
details{margin:.5rem 0}pre{overflow-x:auto;font-size:12px;background:var(--soft);padding:.6rem}
"""
_OFFSETS = ("lips_offset", "async", "sound_delay", "av_start")  # of the histograms
_SHEET = 48  # frames of the contact sheet
Report = Callable[[str, int, int], None]


def write(results: Results, settings: EvalSettings, progress: Report | None = None) -> Path:
    """`page.html` in the run's output folder."""
    cache = Cache(Path(settings.cache) if settings.cache else Path(settings.output) / "cache")
    samples = {sample.name: sample for sample in pairing.find(settings, Tools(settings.weights), cache).samples}
    return write_text(Path(settings.output) / "page.html", build(results, samples, settings, progress))


def build(results: Results, samples: dict[str, Sample], settings: EvalSettings, progress: Report | None = None) -> str:
    """The whole page as text."""
    report = progress or (lambda stage, done, total: None)
    parts = [_head(results, settings), _table(results), _faults(results), _not_computed(results)]
    parts += [_literature(results, settings), _groups(results), _plots(results), _sheet(results, samples)]
    worst = ranked(results)[: settings.worst]
    parts.append(f"<h2>The {len(worst)} worst clips</h2><p>By the mean rank over all metrics with a good side.</p>")
    for number, clip in enumerate(worst, 1):
        parts.append(_clip(results, clip, samples[clip.name]))
        report("report", number, len(worst))
    parts.append(_settings(results))
    title = escape(f"{results.system.name}: evaluation")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        + "\n".join(part for part in parts if part)
        + "</body></html>\n"
    )


def _head(results: Results, settings: EvalSettings) -> str:
    lines = [f"{len(results.system.clips)} clips, {results.seconds:.0f} s of judging."]
    if settings.protocol:
        lines.append(f"Protocol: {settings.protocol}.")
    if settings.timbre:
        leak = (
            " The prompt is the line that is asked for: an upper bound, not a result."
            if settings.timbre == "self"
            else ""
        )
        lines.append(f"Timbre prompt: {settings.timbre}.{leak}")
    return f"<h1>{escape(results.system.name)}</h1><p>{escape(' '.join(lines))}</p>"


def _rows(head: list[str], rows: list[list[str]]) -> str:
    """A table of cells that are HTML already."""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _name(metric) -> str:
    return f'<span title="{escape(metric.definition)}">{escape(table.title(metric))}</span>'


def _table(results: Results) -> str:
    found = {row.name: summary(row, results) for row in results.rows}
    rows = [
        [_name(metric), *(escape(table.cell(row.get(metric.key))) for row in found.values())]
        for metric in results.metrics
        if any(metric.key in row for row in found.values())
    ]
    note = (
        "Means over clips with 95 % bootstrap intervals. <b>source</b>: the source as its own dub; <b>other dub</b>: "
        "the dub of another clip; <b>other sound</b>: this picture with another dub's sound: what chance gives."
    )
    definitions = "".join(
        f"<li><b>{escape(m.name)}</b> {escape(m.definition)} "
        f"<span class=soft>{escape(m.needs and 'Needs ' + m.needs + '.')}</span></li>"
        for m in results.metrics
    )
    return (
        f"<h2>Results</h2><p class=soft>{note}</p>{_rows(['metric', *found], rows)}"
        f"<details><summary>Definitions</summary><ul>{definitions}</ul></details>"
    )


def _faults(results: Results) -> str:
    lines = table.faults(results)
    notes = [f"{clip.name}: {note}" for clip in results.system.clips for note in clip.notes]
    if not lines and not notes:
        return ""
    items = [f'<li class="fault">{escape(line)}</li>' for line in lines] + [
        f"<li>{escape(note)}</li>" for note in notes
    ]
    return f"<h2>Faults</h2><ul>{''.join(items)}</ul>"


def _not_computed(results: Results) -> str:
    rows = [[escape(names), escape(why)] for names, why in table.not_computed(results.system, results)]
    return f"<h2>Not computed</h2>{_rows(['metrics', 'why, and what would enable them'], rows)}" if rows else ""


def _literature(results: Results, settings: EvalSettings) -> str:
    ours = summary(results.system, results)
    parts = []
    for name in settings.literature:
        published = literature.load(name)
        keys = list(dict.fromkeys(key for row in published.rows for key in row.values))
        rows = [
            [f"{escape(results.system.name)} (measured here)", *(escape(table.cell(ours.get(key))) for key in keys), ""]
        ]
        rows += [
            [escape(row.system), *(table.number(row.values[key]) if key in row.values else "" for key in keys),
             escape(row.source)]
            for row in published.rows
        ]  # fmt: skip
        heads = [next((m.name for m in results.metrics if m.key == key), key) for key in keys]
        parts.append(f"<h3>{escape(published.title)}</h3>{_rows(['system', *heads, 'whose number'], rows)}")
    if not parts:
        return ""
    note = "Numbers of the literature are their authors', with other clips, judges and faces cut out otherwise."
    return f"<h2>Beside published numbers</h2><p class=soft>{note}</p>{''.join(parts)}"


def _groups(results: Results) -> str:
    found = {name: summary(results.system, results, clips) for name, clips in groups(results.system).items()}
    if not found:
        return ""
    counts = {name: len(clips) for name, clips in groups(results.system).items()}
    rows = [
        [_name(metric), *(escape(table.cell(group.get(metric.key))) for group in found.values())]
        for metric in results.of_clips()
        if any(metric.key in group for group in found.values())
    ]
    heads = [f"{name} ({counts[name]})" for name in found]
    return f"<h2>By language and difficulty</h2>{_rows(['metric', *heads], rows)}"


def _plots(results: Results) -> str:
    parts = []
    for metric in results.of_clips():
        numbers = [v for clip in results.system.clips if isinstance(v := clip.outcomes.get(metric.key), float)]
        if metric.key in _OFFSETS and numbers:
            parts.append(svg.histogram(metric.name, numbers, metric.unit))
    axes, rows = radar_values(results)
    if len(axes) >= 3:
        parts.append(svg.radar("Rim: the best of the rows in that metric, middle: the worst", axes, rows))
    return f'<h2>Plots</h2><div class="pair">{"".join(parts)}</div>' if parts else ""


def radar_values(results: Results) -> tuple[list[str], dict[str, list[float]]]:
    """Metrics that have a good side and tell the rows apart; 1 for the best row, 0 for the worst."""
    found = {row.name: summary(row, results) for row in results.rows}
    axes, values = [], {name: [] for name in found}
    for metric in results.metrics:
        if metric.better is Better.EVEN or not all(metric.key in row for row in found.values()):
            continue
        bad = {name: metric.better.badness(row[metric.key].mean) for name, row in found.items()}
        low, high = min(bad.values()), max(bad.values())
        if high - low < 1e-9:
            continue
        axes.append(metric.name)
        for name in found:
            values[name].append((high - bad[name]) / (high - low))
    return axes, values


def ranked(results: Results) -> list[ClipResult]:
    """The system's clips, the worst first: those that are no dub, then by mean rank over all metrics."""
    clips = results.system.clips
    ranks: dict[str, list[float]] = {clip.name: [] for clip in clips}
    for metric in results.of_clips():
        known = [(clip.name, v) for clip in clips if isinstance(v := clip.outcomes.get(metric.key), float)]
        bad = np.array([metric.better.badness(value) for _, value in known])
        if len(bad) < 2 or np.ptp(bad) == 0:
            continue
        for (name, _), badness in zip(known, bad, strict=True):
            ranks[name].append(float(((bad < badness).sum() + 0.5 * ((bad == badness).sum() - 1)) / (len(bad) - 1)))
    mean = {name: float(np.mean(found)) if found else 0.0 for name, found in ranks.items()}
    return sorted(clips, key=lambda clip: (not clip.fault, -mean[clip.name], clip.name))


def _sheet(results: Results, samples: dict[str, Sample]) -> str:
    """A frame of each source over the same frame of its dub."""
    tiles = []
    for name in [clip.name for clip in results.system.clips if clip.name in samples][:_SHEET]:
        with contextlib.suppress(JustDubError):
            sample = samples[name]
            tiles.append((name, np.concatenate([_middle(sample.source), _middle(sample.dub)])))
    if not tiles:
        return ""
    images = "".join(f'<figure style="margin:0"><img alt="" src="{jpeg(tile)}"><small>{escape(name)}</small></figure>'
                     for name, tile in tiles)  # fmt: skip
    return f'<h2>Contact sheet</h2><p class=soft>Source over dub.</p><div class="pair">{images}</div>'


def _middle(clip: Clip) -> np.ndarray:
    """The middle frame, 96 pixels high and square-cut to at most 160 wide."""
    frame = glance(clip.info, columns=1, height=96).frames[0]
    margin = max(0, (frame.shape[1] - 160) // 2)
    return frame[:, margin : frame.shape[1] - margin]


def _clip(results: Results, clip: ClipResult, sample: Sample) -> str:
    fault = f'<p class="fault">{escape(clip.fault)}</p>' if clip.fault else ""
    text = f"<p>{escape(clip.text)} <span class=soft>{escape(clip.language)}</span></p>" if clip.text else ""
    numbers = [
        f"{escape(metric.name)} <b>{table.number(value)}</b> {escape(metric.unit)}"
        for metric in results.of_clips()
        if isinstance(value := clip.outcomes.get(metric.key), float)
    ]
    media = []
    for name, of in (("source", lambda: sample.source), ("dub", lambda: sample.dub)):
        with contextlib.suppress(JustDubError):
            data = player(of().info.path)
            media.append(f'<div><small>{name}</small><br><video controls src="{data}"></video></div>')
    with contextlib.suppress(JustDubError):
        data = jpeg(draw([glance(sample.source.info), glance(sample.dub.info)]))
        words = "source and dub: frames over mel spectrogram"
        media.append(f'<div><small>{words}</small><br><img alt="" src="{data}"></div>')
    media.append(_curves(sample))
    return (
        f'<div class="clip"><h3>{escape(clip.name)}</h3>{fault}{text}<div class="pair">{"".join(media)}</div>'
        f"<p><small>{' · '.join(numbers)}</small></p></div>"
    )


def _curves(sample: Sample) -> str:
    """Level of source and dub, and the dub's mouth where it is known, over time."""
    series = {}
    for name, of in (("source, dB", lambda: sample.source), ("dub, dB", lambda: sample.dub)):
        with contextlib.suppress(JustDubError):
            video = of().info.video
            level_F = envelope(of().speech, video.frames, float(video.frame_rate))
            series[name] = ((np.arange(video.frames) / float(video.frame_rate)).tolist(), level_F.tolist())
    with contextlib.suppress(JustDubError):
        mouth_F = opening(sample.dub)
        rate = float(sample.dub.info.video.frame_rate)
        series["dub's mouth"] = ((np.arange(len(mouth_F)) / rate).tolist(), mouth_F.tolist())
    return svg.curves("Sound and mouth over time", series) if series else ""


def _settings(results: Results) -> str:
    digests = [
        [escape(clip.name), *(f"<code>{escape(clip.digests.get(key, '')[:16])}</code>" for key in ("source", "dub"))]
        for clip in results.system.clips
    ]
    tree = {"settings": results.settings, "versions": results.versions}
    plain = escape(json.dumps(tree, indent=1, ensure_ascii=False))
    return (
        f"<h2>Settings and digests</h2><pre>{plain}</pre><details><summary>SHA-256 of the clips, first 16 digits"
        f"</summary>{_rows(['clip', 'source', 'dub'], digests)}</details>"
    )
