"""One self-contained HTML page of a run: nothing is loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from pathlib import Path

from justdub.evaluation import literature, pairing, registry, table
from justdub.evaluation.cache import Cache
from justdub.evaluation.metric import Better
from justdub.evaluation.report import svg, worst
from justdub.evaluation.report.html import cell, name_of, rows, unit_of
from justdub.evaluation.report.style import STYLE
from justdub.evaluation.results import Results, groups, summary, values, write_text
from justdub.evaluation.sample import Sample
from justdub.evaluation.settings import CONTROLS, EvalSettings
from justdub.evaluation.tools import Tools

_OFFSETS = ("lips_offset", "async", "sound_delay", "av_start")  # of the histograms
# One of each line stands at the top: the first that there is.
_TILES = (
    ("success",), ("wer", "wer_en", "mcd_sl"), ("lse_c", "lips_sound", "int_corr"),
    ("v_sim", "overlap_voice", "overlap"), ("csim", "psnr", "psnr_frame"),
)  # fmt: skip
_MEANING = {
    "source": "the source as its own dub",
    "other dub": "the dub of another clip",
    "other sound": "this picture with another dub's sound, which is what chance gives",
}
Report = Callable[[str, int, int], None]


def write(results: Results, settings: EvalSettings, progress: Report | None = None) -> Path:
    """`page.html` in the run's output folder."""
    cache = Cache(Path(settings.cache) if settings.cache else Path(settings.output) / "cache")
    samples = {sample.name: sample for sample in pairing.find(settings, Tools(settings.weights), cache).samples}
    return write_text(Path(settings.output) / "page.html", build(results, samples, settings, progress))


def build(results: Results, samples: dict[str, Sample], settings: EvalSettings, progress: Report | None = None) -> str:
    """The whole page as text."""
    report = progress or (lambda stage, done, total: None)
    chosen = worst.ranked(results)[: settings.worst]
    cards, seen = [], {}
    for number, clip in enumerate(chosen, 1):
        cards.append(worst.card(results, number, clip, samples[clip.name], seen))
        report("report", number, len(chosen))
    order = "The worst first: by the mean place among all clips, over all metrics with a good side."
    parts = {
        "Faults": _faults(results),
        "Results": _table(results),
        "Not computed": _not_computed(results),
        "Beside published numbers": _literature(results, settings),
        "By language and difficulty": _groups(results),
        "Plots": _plots(results),
        "All clips": f"<p class=soft>{order} Every number is in clips.csv.</p>{worst.listed(results, len(chosen))}",
        "The worst clip" if len(chosen) == 1 else f"The {len(chosen)} worst clips": "".join(cards),
        "Contact sheet": _with(
            "<p class=soft>Source over dub, the worst clips first.</p>", worst.sheet(results, samples, seen)
        ),
        "Settings and digests": _settings(results),
    }
    parts = {name: content for name, content in parts.items() if content}
    links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name in parts)
    body = "".join(f'<h2 id="{_anchor(name)}">{escape(name)}</h2>{content}\n' for name, content in parts.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(results.system.name)}: evaluation'
        f'</title><meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"{_head(results, settings)}<nav>{links}</nav>{_tiles(results)}{body}</body></html>\n"
    )


def _anchor(name: str) -> str:
    return "worst" if "worst clip" in name else name.lower().replace(" ", "-")


def _clips(count: int) -> str:
    return f"{count} clip{'' if count == 1 else 's'}"


def _with(before: str, content: str) -> str:
    return before + content if content else ""


def _head(results: Results, settings: EvalSettings) -> str:
    lines = [f"{_clips(len(results.system.clips))} of {settings.dubbed}, against {settings.source}."]
    if settings.protocol:
        lines.append(f"Protocol: {settings.protocol}.")
    if settings.timbre:
        leak = (
            " The prompt is the line that is asked for: an upper bound, not a result."
            if settings.timbre == "self"
            else ""
        )
        lines.append(f"Timbre prompt: {settings.timbre}.{leak}")
    lines.append(f"Judged in {results.seconds:.0f} s by justdub {results.versions.get('justdub', '')}.")
    return f"<h1>Evaluation: {escape(results.system.name)}</h1><p class=soft>{escape(' '.join(lines))}</p>"


def _tiles(results: Results) -> str:
    """A few numbers of the system, large."""
    found, metrics = summary(results.system, results), {metric.key: metric for metric in results.metrics}
    chosen = [key for keys in _TILES if (key := next((key for key in keys if key in found), ""))]
    clips = len(results.system.clips)

    def share(count: int) -> str:
        return f"of {count} of {clips} clips" if count < clips else ""

    tiles = "".join(
        f"<div><small>{name_of(metrics[key])}</small><b>{table.number(found[key].mean)}"
        f"<span>{unit_of(metrics[key])}</span></b><small>{share(found[key].count)}</small></div>"
        for key in chosen
    )
    return f'<div class="tiles">{tiles}</div>' if len(chosen) > 1 else ""


def _table(results: Results) -> str:
    found = {row.name: summary(row, results) for row in results.rows}
    counts = {row.name: len(row.clips) for row in results.rows}
    asked, lines = set(results.metrics), []
    for family, metrics in registry.families().items():
        block = [
            [name_of(metric), *(cell(row.get(metric.key), counts[name]) for name, row in found.items())]
            for metric in metrics
            if metric in asked and any(metric.key in row for row in found.values())
        ]
        lines += [escape(family), *block] if block else []
    controls = "; ".join(f"<b>{name}</b>: {_MEANING[name]}" for name in CONTROLS if name in found)
    note = "Means over clips with 95 % bootstrap intervals; ↑ higher is better, ↓ lower, →0 nearer to nought."
    definitions = "".join(
        f"<li><b>{escape(m.name)}</b> <code>{m.key}</code> {escape(m.definition)} "
        f"<span class=soft>{escape(m.needs and 'Needs ' + m.needs + '.')}</span></li>"
        for m in results.metrics
    )
    return (
        f"<p class=soft>{note} {controls and controls + '.'}</p>{rows(['metric', *map(escape, found)], lines)}"
        f"<details><summary>Definitions</summary><ul>{definitions}</ul></details>"
    )


def _faults(results: Results) -> str:
    lines = [f'<li class="bad">{escape(line)}</li>' for line in table.faults(results)]
    lines += [f"<li>{escape(f'{clip.name}: {note}')}</li>" for clip in results.system.clips for note in clip.notes]
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def _not_computed(results: Results) -> str:
    body = [
        [
            escape("; ".join(one.names)),
            escape(f"{one.reason}{one.share}"),
            one.remedy and f"<code>{escape(one.remedy)}</code>",
        ]
        for one in table.not_computed(results.system, results)
    ]
    return rows(["metrics", "why", "what would enable them"], body, "words") if body else ""


def _literature(results: Results, settings: EvalSettings) -> str:
    ours, count = summary(results.system, results), len(results.system.clips)
    parts = []
    for name in settings.literature:
        published = literature.load(name)
        keys = list(dict.fromkeys(key for row in published.rows for key in row.values))
        body = [[f"{escape(results.system.name)} (measured here)", *(cell(ours.get(key), count) for key in keys), ""]]
        body += [
            [escape(row.system), *(table.number(row.values[key]) if key in row.values else "" for key in keys),
             escape(row.source)]
            for row in published.rows
        ]  # fmt: skip
        heads = [next((escape(table.title(m)) for m in results.metrics if m.key == key), key) for key in keys]
        parts.append(f"<h3>{escape(published.title)}</h3>{rows(['system', *heads, 'whose number'], body)}")
    note = "Numbers of the literature are their authors', with other clips, judges and faces cut out otherwise."
    return _with(f"<p class=soft>{note}</p>", "".join(parts))


def _groups(results: Results) -> str:
    clips = groups(results.system)
    found = {name: summary(results.system, results, members) for name, members in clips.items()}
    if not found:
        return ""
    body = [
        [name_of(metric), *(cell(group.get(metric.key), len(clips[name])) for name, group in found.items())]
        for metric in results.of_clips()
        if any(metric.key in group for group in found.values())
    ]
    return rows(["metric", *(f"{escape(name)}<br><small>{_clips(len(clips[name]))}</small>" for name in found)], body)


def _plots(results: Results) -> str:
    parts = [
        f"<figure>{svg.histogram(metric.name, numbers, metric.unit)}</figure>"
        for metric in results.of_clips()
        if metric.key in _OFFSETS and (numbers := values(results.system.clips, metric.key))
    ]
    axes, lines = radar_values(results)
    if len(axes) >= 3:
        drawn = svg.radar("The rows: on the rim the best of them in that metric, in the middle the worst", axes, lines)
        parts.append(f"<figure>{drawn}</figure>")
    return f'<div class="flow">{"".join(parts)}</div>' if parts else ""


def radar_values(results: Results) -> tuple[list[str], dict[str, list[float]]]:
    """Metrics that have a good side and tell the rows apart, none twice; 1 for the best row, 0 for the worst."""
    found = {row.name: summary(row, results) for row in results.rows}
    spread = {}
    for metric in results.metrics:
        if metric.better is Better.EVEN or not all(metric.key in row for row in found.values()):
            continue
        bad = {name: metric.better.badness(row[metric.key].mean) for name, row in found.items()}
        if max(bad.values()) - min(bad.values()) >= 1e-9:
            spread[metric.key] = (metric.name, bad)
    twins = {other for one, other in worst.TWINS if one in spread}
    chosen = [both for key, both in spread.items() if key not in twins]
    lines = {
        name: [(max(bad.values()) - bad[name]) / (max(bad.values()) - min(bad.values())) for _, bad in chosen]
        for name in found
    }
    return [name for name, _ in chosen], lines


def _settings(results: Results) -> str:
    digests = [
        [escape(clip.name), *(f"<code>{escape(clip.digests.get(key, '')[:16])}</code>" for key in ("source", "dub"))]
        for clip in results.system.clips
    ]
    tree = {"settings": results.settings, "versions": results.versions}
    plain = escape(json.dumps(tree, indent=1, ensure_ascii=False))
    return (
        f"<details><summary>Settings and versions</summary><pre>{plain}</pre></details>"
        f"<details><summary>SHA-256 of the clips, first 16 digits</summary>"
        f"{rows(['clip', 'source', 'dub'], digests)}</details>"
    )
