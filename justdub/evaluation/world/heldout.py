"""What there is to dub: held-out pairs of the drawn world, and where their pictures must not change.

One clip of a pair is the source, the other one is what a perfect dub of it would be.

Legend: F frames, H = W = 96, S samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from justdub.evaluation.world.table import Clip

if TYPE_CHECKING:
    from datagen.world.clip import Take

SPLIT = "test"
MARGIN = 4  # pixels by which the boxes around the lips are grown
_KEY = (1.0, 0.0, 1.0)  # a colour that nobody and nothing in the world has


@dataclass(frozen=True)
class Task:
    """One dub.

    Attributes:
        number: of the pair. voice: number of the speaker. source: the clip to dub, target: its other half.
        prompt: of the target.
        elsewhere_FHW: bool, outside of the grown boxes around the lips of both. backdrop_FHW: bool, pixels that belong
            to neither head nor body nor anything in front of them in either.
    """

    number: int
    voice: int
    source: Clip
    target: Clip
    prompt: str
    elsewhere_FHW: np.ndarray
    backdrop_FHW: np.ndarray


class Tasks:
    """`count` tasks with the world's clips from number `first` on; dialogue only, nobody laughs.

    They are drawn anew at every iteration, a few at a time, so that many need no more memory than a few.

    Args:
        languages: of the targets, codes; empty: all.
    """

    def __init__(self, count: int, first: int = 0, languages: Sequence[str] = ()) -> None:
        from datagen.world import pairs
        from datagen.world.clip import World

        request = pairs.Request(count, SPLIT, first, tuple(languages))
        self.world, self.first, self.languages = World(), first, tuple(languages)
        self.plans = [
            both if request.wants(both[1].language) else both[::-1] for both in pairs.choose(self.world, request)
        ]

    def __len__(self) -> int:
        return len(self.plans)

    def __iter__(self) -> Iterator[Task]:
        from datagen.world import pairs

        for first in range(0, len(self.plans), pairs.TOGETHER):
            for pair in pairs.draw(self.world, self.plans[first : first + pairs.TOGETHER]):
                source, target = (clip.take for clip in pair.clips)
                frames = [clip.frames for clip in pair.clips]
                yield Task(
                    number=pair.number,
                    voice=source.plan.voice,
                    source=_clip(frames[0], source),
                    target=_clip(frames[1], target),
                    prompt=target.caption,
                    elsewhere_FHW=~pairs.inside(pairs.mouths(pair.clips, MARGIN), self.world.size),
                    backdrop_FHW=backdrop(source, self.world.size) & backdrop(target, self.world.size),
                )

    def other_sounds(self) -> list[np.ndarray | None]:
        """For each task the sound of the next target that says something else, or None."""
        plans, found = [target for _, target in self.plans], []
        for place, plan in enumerate(plans):
            others = (plans[(place + step) % len(plans)] for step in range(1, len(plans)))
            other = next((other for other in others if other.text != plan.text), None)
            found.append(None if other is None else self.world.perform(other).samples)
        return found

    def voices(self, count: int) -> list[tuple[int, np.ndarray]]:
        """Numbers and sounds of other speakers of the split, each another one, none of them in a task."""
        ours = {source.voice for source, _ in self.plans}
        number, found = self.plans[-1][0].index, {}
        while len(found) < count:
            number += 1
            plan = self.world.plan(number, SPLIT)
            if plan.scene_type == "dialogue" and not plan.laughs and plan.voice not in ours | found.keys():
                found[plan.voice] = self.world.perform(plan).samples
        return list(found.items())


def _clip(frames_FHW3: np.ndarray, take: Take) -> Clip:
    return Clip(np.ascontiguousarray(frames_FHW3), take.samples, take.plan.text, take.plan.language)


def backdrop(take: Take, size: int) -> np.ndarray:
    """(F, H, W) bool: what shows the key colour when the backdrop is painted with it. A pixel that something covers in
    part does not."""
    from datagen.world.render import render

    scene = replace(take.drawing.scene, top=_KEY, bottom=_KEY, pattern="plain")
    frames_FHW3 = render([replace(take.drawing, scene=scene)], size=size).frames[0].numpy()
    return (frames_FHW3 == np.rint(np.multiply(_KEY, 255)).astype(np.uint8)).all(-1)
