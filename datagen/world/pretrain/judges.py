"""The judges of `justdub.evaluation.world`: trained on clips of the world, saved as safetensors, measured on `test`.

The last weights are kept: nothing is chosen by a figure. Judges are trained one after another, each in its own folder
under `out`; with --resume finished ones are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from datagen.world.phrases import vocabulary
from datagen.world.pretrain import judged, lessons
from datagen.world.pretrain.data import ShardSpec, open_or_draw
from datagen.world.pretrain.heard import HeardSpec, hear
from datagen.world.pretrain.lessons import Lesson, LossAt, Material
from datagen.world.pretrain.training import restore, train
from datagen.world.speech import LANGUAGES
from justdub.errors import UsageError
from justdub.evaluation.world.articulation import ArticulationSettings
from justdub.evaluation.world.face import FaceSettings
from justdub.evaluation.world.judges import NETS, load, save_lexicon, save_net
from justdub.evaluation.world.lips import LipsSettings
from justdub.evaluation.world.sync import SyncSettings
from justdub.evaluation.world.voice import VoiceSettings
from justdub.evaluation.world.words import WordsSettings


@dataclass(frozen=True)
class Shapes:
    """Of the nets."""

    words: WordsSettings = field(default_factory=WordsSettings)
    lips: LipsSettings = field(default_factory=LipsSettings)
    articulation: ArticulationSettings = field(default_factory=ArticulationSettings)
    voice: VoiceSettings = field(default_factory=VoiceSettings)
    face: FaceSettings = field(default_factory=FaceSettings)
    sync: SyncSettings = field(default_factory=SyncSettings)


@dataclass(frozen=True)
class Lessons:
    """Of the nets."""

    words: Lesson = field(default_factory=Lesson)
    lips: Lesson = field(default_factory=Lesson)
    articulation: Lesson = field(default_factory=Lesson)
    voice: Lesson = field(default_factory=Lesson)
    face: Lesson = field(default_factory=Lesson)
    sync: Lesson = field(default_factory=Lesson)


@dataclass(frozen=True)
class JudgesJob:
    """What to train, on what, and where to put it.

    Attributes:
        weights: folder of the result. only: names of the judges to train now; the others must be in `weights`.
        heard, drawn: training clips; `drawn` are the first clips of `heard`, in order. cuts: clips of `drawn` that the
            sync judge learns from. report_heard, report_drawn: clips for the figures.
        report_codec: folder of an audio codec through which words are heard once more, or "".
    """

    out: str
    shards: str
    weights: str
    only: tuple[str, ...] = tuple(NETS)
    heard: HeardSpec = field(default_factory=lambda: HeardSpec(clips=32000))
    drawn: tuple[ShardSpec, ...] = (ShardSpec(clips=8000, sound=True),)
    cuts: int = 3000
    report_heard: HeardSpec = field(default_factory=lambda: HeardSpec(clips=500, split="test"))
    report_drawn: ShardSpec = field(default_factory=lambda: ShardSpec(clips=48, split="test", sound=True))
    report_codec: str = ""
    shapes: Shapes = field(default_factory=Shapes)
    lessons: Lessons = field(default_factory=Lessons)


def run(
    job: JudgesJob,
    *,
    resume: bool = False,
    finish_only: bool = False,
    report: Callable[[dict], None] | None = None,
) -> dict[str, float]:
    """Draw what is missing, train, save and measure. Returns the figures, also written to `out`/figures.json.

    `finish_only` trains no more: it saves the last weights of the runs there are and measures.
    """
    unknown = set(job.only) - set(NETS)
    if unknown:
        raise UsageError(f"no judge {', '.join(sorted(unknown))}", expected=", ".join(NETS))
    shards, weights = Path(job.shards), Path(job.weights)
    material = Material(
        hear(shards, job.heard, report), tuple(open_or_draw(shards, spec, report) for spec in job.drawn)
    )
    save_lexicon(weights, {language: sorted(vocabulary(language)) for language in LANGUAGES})
    for name in job.only:
        lesson, shape, folder = getattr(job.lessons, name), getattr(job.shapes, name), Path(job.out) / name
        torch.manual_seed(lesson.train.seed)
        net = NETS[name][0](shape)
        loss_at = _loss(name, net, material, lesson, job)
        if not finish_only:
            plain = json.loads(json.dumps({"judge": name, "shape": asdict(shape), **asdict(lesson)}))
            again = resume and (folder / "last.pt").exists()
            train(net, loss_at, lesson.train, folder, job=plain, resume=again, report=report)
        restore(net, folder / "last.pt")
        save_net(weights, name, net, shape)
    figures = judged.figures(load(weights), shards, job.report_heard, job.report_drawn, job.report_codec, report)
    (Path(job.out) / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def _loss(name: str, net: nn.Module, material: Material, lesson: Lesson, job: JudgesJob) -> LossAt:
    """What a net is trained to lower."""
    if name == "sync":
        clips_N = material.dialogue[material.dialogue < material.pictures][: job.cuts]
        cuts = lessons.cut_mouths(material, clips_N, Path(job.shards) / f"mouths-{len(clips_N)}.uint8")
        return lessons.sync(net, material, lesson, cuts, clips_N)
    return getattr(lessons, name)(net, material, lesson)
