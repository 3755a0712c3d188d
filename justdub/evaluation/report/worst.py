"""Which clips are the worst and in what: the list of all clips, and a card with players for each of the last.

Legend: F frames, H/W height/width, 3 RGB.
"""

from __future__ import annotations

import contextlib
from html import escape
from pathlib import Path

import numpy as np

from justdub.errors import JustDubError
from justdub.evaluation import table
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.metrics.lips import envelope
from justdub.evaluation.metrics.mouth import opening
from justdub.evaluation.report import svg
from justdub.evaluation.report.embedded import jpeg, player
from justdub.evaluation.report.html import rows, unit_of
from justdub.evaluation.results import ClipResult, Results
from justdub.evaluation.sample import Clip, Sample
from justdub.media.picture import Glance, draw, glance

HEADLINES = (
    "wer", "wer_en", "lse_c", "lse_d", "async", "lips_sound", "sound_delay", "csim", "v_sim", "psnr", "psnr_frame",
    "vmaf", "mcd_sl", "int_corr", "overlap_voice", "overlap", "loudness_change", "duration_error",
)  # fmt: skip
_COLUMNS = 8  # of numbers in the list of all clips
_SAID = 3  # metrics in which a clip is told to be bad

# Beside the first, the second says the same again.
TWINS = (("psnr", "psnr_frame"), ("ssim", "ssim_frame"), ("flicker", "flicker_frame"), ("ssim", "ms_ssim"),
          ("wer", "cer"), ("mcd", "mcd_sl"), ("dnsmos", "dnsmos_speech"), ("dnsmos", "dnsmos_background"),
          ("overlap_voice", "overlap"), ("lse_c", "lse_d"))  # fmt: skip
Seen = dict[Path, Glance]  # what was drawn of a file already
Standing = dict[str, dict[str, float]]


def standing(results: Results) -> Standing:
    """clip -> key -> its place, 0 the best of the system's clips to 1 the worst; metrics with a good side that tell
    clips apart."""
    clips = results.system.clips
    found: Standing = {clip.name: {} for clip in clips}
    for metric in results.of_clips():
        known = [(clip.name, v) for clip in clips if isinstance(v := clip.outcomes.get(metric.key), float)]
        bad = np.array([metric.better.badness(value) for _, value in known])
        if len(bad) < 2 or np.ptp(bad) == 0:
            continue
        for (name, _), one in zip(known, bad, strict=True):
            found[name][metric.key] = float(((bad < one).sum() + 0.5 * ((bad == one).sum() - 1)) / (len(bad) - 1))
    return found


def ranked(results: Results) -> list[ClipResult]:
    """The system's clips, the worst first: those that are no dub, then by mean place over all metrics."""
    places = standing(results)
    mean = {name: float(np.mean([*found.values()])) if found else 0.0 for name, found in places.items()}
    return sorted(results.system.clips, key=lambda clip: (not clip.fault, -mean[clip.name], clip.name))


def bad_in(results: Results, clip: ClipResult, places: dict[str, float]) -> list[tuple[Metric, float]]:
    """(metric, value) of those in which the clip is among the worst third of all, the worst first."""
    by_key = {metric.key: metric for metric in results.of_clips()}
    keys = sorted((key for key, place in places.items() if place >= 2 / 3), key=lambda key: -places[key])
    again = {other for one, other in TWINS if one in places}
    return [(by_key[key], clip.outcomes[key]) for key in keys if key not in again][:_SAID]


def listed(results: Results, shown: int) -> str:
    """All clips, the worst first; the first `shown` names lead to their cards."""
    places = standing(results)
    metrics = {metric.key: metric for metric in results.of_clips()}
    chosen = [metrics[key] for key in HEADLINES if any(key in one for one in places.values())][:_COLUMNS]
    lines = []
    for number, clip in enumerate(ranked(results)):
        name = escape(clip.name)
        link = f'<a href="#worst-{number + 1}">{name}</a>' if number < shown else name
        why = "; ".join(escape(metric.name) for metric, _ in bad_in(results, clip, places[clip.name]))
        why = f'<span class="bad">{escape(clip.fault)}</span>' if clip.fault else why
        numbers = [
            table.number(v) if isinstance(v := clip.outcomes.get(metric.key), float) else "" for metric in chosen
        ]
        lines.append([link, why, *numbers])
    heads = [escape(table.title(metric)) for metric in chosen]
    return rows(["clip", "among the worst third in", *heads], lines, "clips")


def card(results: Results, number: int, clip: ClipResult, sample: Sample, seen: Seen) -> str:
    """Players, pictures, curves and numbers of one clip. What is read of its files is put into `seen`."""
    fault = f'<p class="bad">{escape(clip.fault)}</p>' if clip.fault else ""
    text = f"<p>“{escape(clip.text)}” <span class=soft>{escape(clip.language)}</span></p>" if clip.text else ""
    places = standing(results)[clip.name]
    why = "; ".join(
        f"{escape(metric.name)} <b>{table.number(value)}</b>{unit_of(metric)}"
        for metric, value in bad_in(results, clip, places)
    )
    why = f"<p class=soft>Among the worst third in: {why}</p>" if why else ""
    items = "".join(
        f"<li>{escape(metric.name)}{_best(metric)} <b>{table.number(value)}{unit_of(metric)}</b></li>"
        for metric in results.of_clips()
        if isinstance(value := clip.outcomes.get(metric.key), float)
    )
    numbers = f'<details><summary>All numbers of this clip</summary><ul class="numbers">{items}</ul></details>'
    return (
        f'<div class="clip" id="worst-{number}"><h3>{number}. {escape(clip.name)}</h3>{fault}{text}{why}'
        f'<div class="flow">{"".join(_media(sample, seen))}{_curves(sample)}</div>{numbers}</div>'
    )


def _best(metric: Metric) -> str:
    return "" if metric.better is Better.EVEN else f" {metric.better.arrow}"


def _media(sample: Sample, seen: Seen) -> list[str]:
    """Source and dub to play, and both as frames over their spectrograms."""
    parts, glances = [], []
    for name, of in (("source", lambda: sample.source), ("dub", lambda: sample.dub)):
        with contextlib.suppress(JustDubError):
            info = of().info
            found = seen[info.path] = glance(info)
            glances.append(found)
            poster = jpeg(found.frames[len(found.frames) // 2])
            parts.append(
                f'<figure><figcaption>{name}</figcaption><video controls preload="metadata" poster="{poster}" '
                f'src="{player(info.path)}"></video></figure>'
            )
    if glances:
        words = " and ".join(("source", "dub")[: len(glances)]) + ": frames over mel spectrogram, 0 to 8 kHz"
        picture = jpeg(draw(glances))
        parts.append(f'<figure><figcaption>{words}</figcaption><img alt="{words}" src="{picture}"></figure>')
    return parts


def _curves(sample: Sample) -> str:
    """Level of source and dub, and the dub's mouth where it is known, over time."""
    series = {}
    for name, of in (("source, dB", lambda: sample.source), ("dub, dB", lambda: sample.dub)):
        with contextlib.suppress(JustDubError):
            series[name] = _level(of())
    with contextlib.suppress(JustDubError):
        mouth_F = opening(sample.dub)
        rate = float(sample.dub.info.video.frame_rate)
        series["dub's mouth, MAR"] = ((np.arange(len(mouth_F)) / rate).tolist(), mouth_F.tolist())
    return f"<figure>{svg.curves('Sound and mouth over time', series)}</figure>" if series else ""


def _level(clip: Clip) -> tuple[list[float], list[float]]:
    video = clip.info.video
    level_F = envelope(clip.speech, video.frames, float(video.frame_rate))
    return (np.arange(video.frames) / float(video.frame_rate)).tolist(), level_F.tolist()


def sheet(results: Results, samples: dict[str, Sample], seen: Seen, most: int = 48) -> str:
    """A frame of each source over the same frame of its dub, the worst clips first."""
    tiles = []
    for clip in [clip for clip in ranked(results) if clip.name in samples][:most]:
        with contextlib.suppress(JustDubError):
            sample = samples[clip.name]
            picture = np.concatenate([_middle(sample.source, seen), _middle(sample.dub, seen)])
            name = escape(clip.name)
            tiles.append(f'<figure><img alt="{name}" src="{jpeg(picture)}">{name}</figure>')
    return f'<div class="sheet">{"".join(tiles)}</div>' if tiles else ""


def _middle(clip: Clip, seen: Seen) -> np.ndarray:
    """uint8 (96, W, 3): a frame of the middle, cut to at most 160 wide."""
    frames = (seen.get(clip.info.path) or glance(clip.info, columns=1)).frames
    frame = frames[len(frames) // 2]
    margin = max(0, (frame.shape[1] - 160) // 2)
    return frame[:, margin : frame.shape[1] - margin]
