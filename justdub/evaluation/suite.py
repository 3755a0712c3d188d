"""A run: pairs, every metric of every clip, controls beside the system.

    results = run(EvalSettings(source="clips", dubbed="dubs", output="out"))

What is slow is kept by content (`cache`), so a run that was broken off goes on where it stopped, and a second system
against the same sources costs its own clips only.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from justdub.errors import JustDubError, UsageError
from justdub.evaluation import pairing, registry
from justdub.evaluation.cache import Cache
from justdub.evaluation.metric import Metric, NotComputed, SetMetric
from justdub.evaluation.metrics.streams import differences
from justdub.evaluation.metrics.success import fault_of
from justdub.evaluation.results import ClipResult, Results, Row
from justdub.evaluation.sample import Sample
from justdub.evaluation.settings import CONTROLS, EvalSettings
from justdub.evaluation.tools import Tools

_PACKAGES = (
    "justdub", "numpy", "scipy", "torch", "av", "imageio-ffmpeg", "transformers", "mediapipe", "silero-vad",
    "pocketsphinx", "onnxruntime",
)  # fmt: skip

Report = Callable[[str, int, int], None]


def run(settings: EvalSettings, progress: Report | None = None) -> Results:
    """Judge every pair of the folders; see `pairing.find` for the errors that end a run."""
    report = progress or (lambda stage, done, total: None)
    begin = time.perf_counter()
    metrics = registry.chosen(settings.metrics)
    unknown = [name for name in settings.controls if name not in CONTROLS]
    if unknown:
        raise UsageError(f"no control {unknown[0]!r}", expected=f"some of {', '.join(CONTROLS)}")
    if settings.features and len(settings.features) != 2:
        raise UsageError(
            f"{len(settings.features)} folders of features", expected="two: of the sources and of the dubs"
        )
    tools = Tools(
        settings.weights, emotion_labels=settings.emotion_labels, features=settings.features, device=settings.device
    )
    cache = Cache(Path(settings.cache) if settings.cache else Path(settings.output) / "cache")
    pairs = pairing.find(settings, tools, cache)
    rows = {settings.name: list(pairs.samples)}
    rows |= {name: found for name in settings.controls if (found := control(name, pairs.samples))}
    total, done = sum(map(len, rows.values())), 0
    judged = []
    for name, samples in rows.items():
        clips = []
        for sample in samples:
            clips.append(_judge(sample, metrics))
            done += 1
            report("judge", done, total)
        judged.append(Row(name, tuple(clips), _together(samples, clips, metrics)))
    return Results(
        rows=tuple(judged),
        metrics=metrics,
        settings=settings.plain(),
        versions=_versions(),
        faults=pairs.faults,
        seconds=time.perf_counter() - begin,
    )


def control(name: str, samples: Sequence[Sample]) -> list[Sample]:
    """A row of what a number means: the best that is possible, or chance. [] where there are too few clips."""
    if name == "source":
        return [sample.replaced(dubbed=sample.source, fault="", stem=None, text="") for sample in samples]
    made = [sample for sample in samples if sample.dubbed is not None]
    if len(made) < 2:
        return []
    others = made[1:] + made[:1]
    if name == "other dub":
        return [one.replaced(dubbed=other.dubbed, stem=None) for one, other in zip(made, others, strict=True)]
    return [
        one.replaced(dubbed=one.dubbed.with_sound_of(other.dubbed), stem=None)
        for one, other in zip(made, others, strict=True)
    ]


def _judge(sample: Sample, metrics: Sequence[Metric | SetMetric]) -> ClipResult:
    outcomes = {metric.key: metric.measure(sample) for metric in metrics if isinstance(metric, Metric)}
    fault, notes = fault_of(sample), ()
    with contextlib.suppress(JustDubError):  # then the fault says it
        notes = differences(sample)
    digests = {}
    for what, clip in (("source", sample.source), ("dub", sample.dubbed)):
        try:
            digests[what] = clip.picture_digest if clip is not None else ""
        except OSError:
            digests[what] = ""
    for clip in (sample.source, sample.dubbed, sample.truth, sample.voice, sample.stem):
        if clip is not None:
            clip.forget()
    return ClipResult(sample.name, outcomes, sample.text, sample.language, sample.difficulty, fault, notes, digests)


def _together(samples: Sequence[Sample], clips: Sequence[ClipResult], metrics: Sequence[Metric | SetMetric]) -> dict:
    """Metrics of all clips, of those that are dubs at all."""
    good = [sample for sample, clip in zip(samples, clips, strict=True) if not clip.fault]
    found = [metric for metric in metrics if isinstance(metric, SetMetric)]
    return {metric.key: metric.measure(good) if good else NotComputed("there is no dub") for metric in found}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
