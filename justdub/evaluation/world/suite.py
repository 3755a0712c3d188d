"""The backbone on the drawn world: held-out prompts become clips, which the judges compare with true ones.

Prompts are those of the world's `test` split: speakers, faces and combinations of words that no training has seen.
Only clips in which the face speaks are used. Four rows: `generated` from the prompt alone; `coded`, true clips through
the backbone's codecs and vocoder (what a perfect transformer would reach); `truth`; `shuffled`, true pictures with
each other's sound (the level of chance).

Legend: F frames, H/W height/width, S samples.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from justdub.dubbing.pipeline import DubPipeline
from justdub.dubbing.settings import DubSettings
from justdub.errors import BadInputError
from justdub.evaluation.world.judges import Judges
from justdub.evaluation.world.table import Clip, Scores, judge, markdown, shuffled, summary
from justdub.media.png import write_png

_TOGETHER = 16  # true clips drawn at once
_SHEET = 8  # rows and columns of the contact sheet


@dataclass(frozen=True)
class Outcome:
    """rows: of the table. scores: of every clip of a row. prompts: of the generated clips. sheet: (H', W', 3) uint8,
    one frame of each of the first 64 generated clips."""

    rows: dict[str, dict[str, float]]
    scores: dict[str, list[Scores]]
    prompts: list[str]
    sheet: np.ndarray

    def markdown(self) -> str:
        return markdown(self.rows)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": {
                name: {column: None if np.isnan(value) else value for column, value in row.items()}
                for name, row in self.rows.items()
            },
            "clips": [
                {"prompt": prompt} | {name: asdict(row[number]) for name, row in self.scores.items()}
                for number, prompt in enumerate(self.prompts)
                if all(number < len(row) for row in self.scores.values())
            ],
        }


def run(
    pipe: DubPipeline,
    judges: Judges,
    *,
    clips: int,
    settings: DubSettings,
    first: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Outcome:
    """Generate, code and judge.

    Args:
        clips: how many; first: number of the first test clip looked at.
        settings: of the generation; clip i gets the seed `settings.seed` + i.

    Raises:
        BadInputError: the backbone's sound is not what the judges hear (16 kHz).
    """
    report = progress or (lambda stage, done, total: None)
    audio = pipe.backbone.audio_codec
    if (audio.sample_rate, audio.output_rate) != (16000, 16000):
        raise BadInputError(
            f"{pipe.backbone.card.name} makes sound at {audio.output_rate} Hz",
            expected="16 kHz, as in the drawn world",
            remedy="evaluate it on real footage",
        )
    truth, prompts = true_clips(clips, first, report)
    scores: dict[str, list[Scores]] = {"generated": [], "coded": []}
    stills = []
    for number, (clip, prompt) in enumerate(zip(truth, prompts, strict=True)):
        made = pipe.generate(prompt, frames=len(clip.frames), settings=replace(settings, seed=settings.seed + number))
        stills.append(made.frames_FHW3[(7 * number) % len(made.frames_FHW3)])
        scores["generated"].append(judge(judges, _clip(made.frames_FHW3, made.audio_CS, clip)))
        scores["coded"].append(judge(judges, _coded(pipe, clip)))
        report("generate", number + 1, clips)
    for name, row in (("truth", truth), ("shuffled", shuffled(truth))):
        scores[name] = [judge(judges, clip) for clip in row]
    return Outcome({name: summary(row) for name, row in scores.items()}, scores, prompts, _sheet(stills))


def true_clips(count: int, first: int, report: Callable[[str, int, int], None]) -> tuple[list[Clip], list[str]]:
    """Test clips in which the face speaks and nobody laughs, with their prompts."""
    from datagen.world.clip import World

    world = World()
    chosen, number = [], first
    while len(chosen) < count:
        plan = world.plan(number, "test")
        if plan.scene_type == "dialogue" and not plan.laughs:
            chosen.append(plan)
        number += 1
    clips, prompts = [], []
    for start in range(0, count, _TOGETHER):
        batch = world.render(chosen[start : start + _TOGETHER])
        for take, frames in zip(batch.takes, batch.frames.numpy(), strict=True):
            clips.append(Clip(frames, take.samples, take.plan.text, take.plan.language))
            prompts.append(take.caption)
        report("draw", len(clips), count)
    return clips, prompts


def _clip(frames: np.ndarray, audio_CS: np.ndarray, like: Clip) -> Clip:
    return Clip(frames, audio_CS.mean(0), like.text, like.language)


def _coded(pipe: DubPipeline, clip: Clip) -> Clip:
    """A clip through the codecs and the vocoder."""
    video, audio = pipe.backbone.video_codec, pipe.backbone.audio_codec
    frames = video.decode(video.encode(clip.frames.copy())).numpy()
    sound = audio.decode(audio.encode(clip.samples[None].repeat(audio.channels, 0))).numpy()
    return _clip(frames[: len(clip.frames)], sound[:, : len(clip.samples)], clip)


def _sheet(stills: list[np.ndarray]) -> np.ndarray:
    """Up to 8 x 8 frames as one picture."""
    stills = stills[: _SHEET * _SHEET]
    blank = np.zeros_like(stills[0])
    rows = [stills[start : start + _SHEET] for start in range(0, len(stills), _SHEET)]
    return np.concatenate([np.concatenate(row + [blank] * (_SHEET - len(row)), 1) for row in rows], 0)


def write(outcome: Outcome, folder: Path) -> list[Path]:
    """`table.md`, `scores.json` and `sheet.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("table.md", "scores.json", "sheet.png")]
    paths[0].write_text(outcome.markdown(), encoding="utf-8")
    paths[1].write_text(json.dumps(outcome.plain(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    write_png(paths[2], outcome.sheet)
    return paths
