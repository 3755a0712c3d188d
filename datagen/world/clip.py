"""`World`: clips of drawn people who really speak, with everything that is true of them.

    world = World(seed=0)
    clip = world.clip(17, split="base")        # frames, sound, caption, truth
    batch = world.batch(range(32))             # the same clips, drawn together
    french, german = world.pair(3, "adapters")  # same face, motion, voice and style, translated dialogue

Time 0 is the first sample and the instant of frame 0; frame k shows the instant k / frame_rate. The sound is exactly
frames / frame_rate long. A clip depends on (seed, split, index, half) and the world's shape alone, not on its batch.

Legend: B clips, F frames, H = W = size, S samples, C = `visemes.CHANNELS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from datagen.world import captions, faces, motion, sounds, speech, styles, visemes
from datagen.world import plan as plans
from datagen.world.features import MouthShape
from datagen.world.plan import ClipPlan
from datagen.world.render import Drawing, render
from datagen.world.voices import voice

_MARGIN = 0.04  # seconds of the clip kept free at either end


@dataclass(frozen=True)
class Take:
    """A plan performed: the sound and what there is to draw.

    Attributes:
        samples: float32 (S,), full scale 1. phonemes: of the sentence, clip time. laughter: phonemes of a laugh after
        it. caption: the prompt. drawing: all the renderer needs; its `mouth_FC` are the mouth's true parameters.
        mouth: lip opening and width in pixels of a 96-pixel frame, box as fractions of the frame.
    """

    plan: ClipPlan
    samples: np.ndarray
    phonemes: tuple[speech.Phoneme, ...]
    laughter: tuple[speech.Phoneme, ...]
    caption: str
    drawing: Drawing
    mouth: MouthShape


@dataclass(frozen=True)
class WorldClip:
    """A take with its picture: frames uint8 (F, H, W, 3), box_F4 = x0, y0, x1, y1 of the lips in pixels of these
    frames."""

    take: Take
    frames: np.ndarray
    box_F4: np.ndarray

    @property
    def samples(self) -> np.ndarray:
        return self.take.samples

    @property
    def caption(self) -> str:
        return self.take.caption

    def truth(self) -> dict:
        """All labels as plain numbers and strings, for JSON."""
        take, plan = self.take, self.take.plan
        face = take.drawing.face
        return {
            "split": plan.split, "index": plan.index, "half": plan.half, "caption": take.caption,
            "language": plan.language,
            "text": plan.text, "meaning": plan.meaning.key, "style": plan.style, "intensity": plan.intensity,
            "scene_type": plan.scene_type, "tint_style": plan.tint_style, "voice": plan.voice, "face": plan.face,
            "gender": face.kind.gender, "age": face.kind.age, "ambience": plan.ambience,
            "occluder": plan.scene.occluder,
            "phonemes": [(round(p.start, 4), round(p.end, 4), p.ipa) for p in take.phonemes],
            "laughter": [(round(p.start, 4), round(p.end, 4), p.ipa) for p in take.laughter],
            "mouth_channels": list(visemes.CHANNELS), "mouth": take.drawing.mouth_FC.round(4).tolist(),
            "opening_px": take.mouth.opening_F.round(3).tolist(), "width_px": take.mouth.width_F.round(3).tolist(),
            "mouth_box_px": self.box_F4.round(2).tolist(),
        }  # fmt: skip


@dataclass(frozen=True)
class WorldBatch:
    """Clips drawn together: frames uint8 (B, F, H, W, 3), samples (B, S), box_BF4 in pixels, lips (B, F, H, W) or
    None."""

    takes: tuple[Take, ...]
    frames: torch.Tensor
    samples: np.ndarray
    box_BF4: np.ndarray
    lips: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.takes)

    def __getitem__(self, index: int) -> WorldClip:
        return WorldClip(self.takes[index], self.frames[index].cpu().numpy(), self.box_BF4[index])


class World:
    """An endless supply of clips.

    Args:
        seed: of all choices (voices, faces and splits are the same in every world).
        size: side of the frames, divisible by 16; frame_rate: frames/s; frames: per clip; sample_rate: 16000 only.
        vocabulary: rows used of each table of words (None = all), for models too small for the full one.
    """

    def __init__(
        self,
        seed: int = 0,
        size: int = 96,
        frame_rate: int | Fraction = 25,
        frames: int = 49,
        sample_rate: int = speech.SAMPLE_RATE,
        vocabulary: int | None = None,
    ) -> None:
        if sample_rate != speech.SAMPLE_RATE:
            raise ValueError(f"sample rate {sample_rate}: the world is heard at {speech.SAMPLE_RATE} Hz only")
        self.seed, self.size, self.frames, self.vocabulary = seed, size, frames, vocabulary
        self.frame_rate, self.sample_rate = Fraction(frame_rate), sample_rate
        self.length = round(frames * sample_rate / self.frame_rate)
        self.duration = self.length / sample_rate
        self.times_F = np.arange(frames) / float(self.frame_rate)

    def plan(self, index: int, split: str = "base") -> ClipPlan:
        """What clip `index` of a split will be; costs almost nothing."""
        return plans.draw(self.seed, split, index, self.duration, limit=self.vocabulary)

    def clip(self, index: int, split: str = "base") -> WorldClip:
        return self.batch([index], split)[0]

    def batch(
        self, indices: Iterable[int], split: str = "base", *, device: str = "cpu", lips: bool = False
    ) -> WorldBatch:
        """Clips by number. Spoken one by one on the CPU, drawn together on `device`."""
        return self.render([self.plan(index, split) for index in indices], device=device, lips=lips)

    def pair(self, index: int, split: str = "base") -> tuple[WorldClip, WorldClip]:
        """Clip `index` and the same person saying the same in another language: face, motion, voice and style agree."""
        batch = self.pairs([index], split)
        return batch[0], batch[1]

    def pairs(
        self, indices: Iterable[int], split: str = "base", *, device: str = "cpu", lips: bool = False
    ) -> WorldBatch:
        """Pairs side by side: clips 2 i and 2 i + 1 belong together."""
        both = []
        for index in indices:
            first = self.plan(index, split)
            both += [first, plans.translate(first, voice(first.voice).kind.gender)]
        return self.render(both, device=device, lips=lips)

    def render(self, specs: list[ClipPlan], *, device: str = "cpu", lips: bool = False) -> WorldBatch:
        """Perform and draw any plans, for instance edited ones (`dataclasses.replace`)."""
        order = sorted(range(len(specs)), key=lambda i: specs[i].language)  # changing the language loads a dictionary
        takes: list[Take | None] = [None] * len(specs)
        for i in order:
            takes[i] = self.perform(specs[i])
        picture = render([take.drawing for take in takes], size=self.size, device=device, lips=lips)
        boxes = np.stack([take.mouth.box_F4 for take in takes]) * self.size
        return WorldBatch(tuple(takes), picture.frames, np.stack([t.samples for t in takes]), boxes, picture.lips)

    def spoken(self, plan: ClipPlan) -> tuple[speech.Phoneme, ...]:
        """The phonemes of a plan, laughter included, clip time; nothing is drawn."""
        _, phonemes, laughter = self._sound(plan)
        return (*phonemes, *laughter)

    def perform(self, plan: ClipPlan) -> Take:
        """Speak a plan and set its face in motion."""
        samples, phonemes, laughter = self._sound(plan)
        style, face = styles.STYLES[plan.style], faces.face(plan.face)
        moving = (*phonemes, *laughter) if plan.scene_type == "dialogue" else ()
        mouth = visemes.mouth_track(moving, self.times_F)
        mouth[:, 0] = np.clip(mouth[:, 0] * (1 + style.at("jaw", plan.intensity)), 0, 1.1)
        effects = {name: style.at(name, plan.intensity) for name in ("inner", "outer", "corner", "lid")}
        track = motion.sample(plan.motion, self.times_F, bob=1 + style.at("bob", plan.intensity))
        drawing = Drawing(face, plan.scene, track, mouth, **effects)
        text = captions.caption(plan, face, voice(plan.voice).kind, bool(laughter), plans.caption_generator(plan))
        return Take(plan, samples, phonemes, laughter, text, drawing, drawing.mouth())

    def _sound(self, plan: ClipPlan):
        speaker, style = voice(plan.voice), styles.STYLES[plan.style]
        longest = self.duration - 2 * _MARGIN
        said = self._say(plan, plan.text, 1.0)
        if said.duration > longest and plan.pause:
            said = self._say(plan, plan.text.replace(",", ""), 1.0)
        for _ in range(3):  # a slow speaker of a long sentence has to hurry
            if said.duration <= longest:
                break
            said = self._say(plan, plan.text.replace(",", ""), 1.03 * said.duration / longest)
        laugh = self._say(plan, "ha ha ha", 1.25) if plan.laughs else None
        if laugh is not None and said.duration + laugh.duration + 0.1 > longest:
            laugh = None
        rng = np.random.default_rng(plan.noise)
        phase, sound = rng.uniform(0, 2 * np.pi), np.zeros(self.length, np.float32)
        spoken = said.duration + (laugh.duration + 0.1 if laugh else 0.0)
        start = round((_MARGIN + plan.onset * max(0.0, longest - spoken)) * self.sample_rate)
        phonemes = self._put(sound, said, start, style, plan, speaker, phase)
        laughter = ()
        if laugh is not None:
            begin = start + round((said.duration + 0.1) * self.sample_rate)
            laughter = self._put(sound, laugh, begin, style, plan, speaker, phase)
        if plan.scene_type == "monologue":
            sound = sounds.inner_voice(sound)
        if plan.ambience:
            sound += sounds.ambience(plan.ambience, self.length, rng) * np.float32(sounds.decibel(plan.ambience_level))
        sound += rng.standard_normal(self.length, dtype=np.float32) * np.float32(sounds.decibel(sounds.FLOOR))
        return np.clip(sound, -1, 1), phonemes, laughter

    def _put(self, sound, said, start, style, plan, speaker, phase) -> tuple[speech.Phoneme, ...]:
        coloured = sounds.deliver(said.samples, style, plan.intensity, speaker.tremor, phase)
        end = min(len(sound), start + len(coloured))
        sound[start:end] += coloured[: end - start]
        shift = start / self.sample_rate
        return tuple(
            speech.Phoneme(p.start + shift, min(p.end + shift, self.duration), p.ipa)
            for p in said.phonemes
            if p.start + shift < self.duration
        )

    @staticmethod
    def _say(plan: ClipPlan, text: str, haste: float) -> speech.Utterance:
        speaker, style = voice(plan.voice), styles.STYLES[plan.style]
        return speech.speak(
            text,
            plan.language,
            speaker.lines(style.at("whisper", plan.intensity)),
            pitch=round(50 + style.at("pitch", plan.intensity) * 50 / 12),
            pitch_range=round(np.clip(50 + style.at("span", plan.intensity), 0, 99)),
            rate=round(speaker.rate * (1 + style.at("rate", plan.intensity)) * haste),
        )
