"""What an adapter in training does to some clips: dubbed now and then, as clips and as one picture.

Letters: F frames, H/W height/width, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from justdub.backbone.checkpoint import Backbone
from justdub.dubbing.pipeline import DubPipeline
from justdub.dubbing.settings import DubSettings
from justdub.media import probe
from justdub.media.picture import draw, glance
from justdub.media.png import write_png
from justdub.training.config import PreviewClip, TrainJob
from justdub.training.dataset import Pair


def choose(job: TrainJob, pairs: Sequence[Pair]) -> tuple[PreviewClip, ...]:
    """The clips to show: those of the job, else some of the list, spread over it."""
    pairs = [pair for pair in pairs if pair.reference is not None]
    if job.preview.clips or not pairs:
        return job.preview.clips
    places = np.linspace(0, len(pairs) - 1, min(job.preview.from_data, len(pairs))).round().astype(int)
    return tuple(
        PreviewClip(str(pairs[place].reference), pairs[place].caption, str(pairs[place].target))
        for place in sorted(set(places.tolist()))
    )


class Preview:
    """Writes ``OUT/previews/step-000100/NN.mp4`` and one ``step-000100.png`` (source, target, dub under each other).

    Args:
        report: called with (step, path of the picture).
    """

    def __init__(
        self,
        job: TrainJob,
        backbone: Backbone,
        clips: Sequence[PreviewClip],
        report: Callable[[int, Path], None] | None = None,
    ) -> None:
        self.folder, self.clips, self.report = Path(job.out) / "previews", clips, report
        self.pipe = DubPipeline(backbone, rules=job.rules)
        shown = job.preview
        self.settings = DubSettings(
            seed=shown.seed, steps=shown.steps, guidance=shown.guidance, audio_guidance=shown.audio_guidance
        ).filled(job.adapter.sampling, backbone.card.sampling)

    def __call__(self, step: int) -> None:
        folder = self.folder / f"step-{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for number, clip in enumerate(self.clips):
            path = folder / f"{number:02d}.mp4"
            self.pipe(clip.input, prompt=clip.prompt, settings=self.settings, output=path)
            shown = [clip.input, *([clip.target] if clip.target else []), str(path)]
            rows += [glance(probe(one)) for one in shown]
        picture = self.folder / f"step-{step:06d}.png"
        write_png(picture, draw(rows))
        if self.report is not None:
            self.report(step, picture)
