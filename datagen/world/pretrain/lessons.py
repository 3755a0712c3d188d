"""What each judge of the drawn world is trained on: its loss at a step, a function of the step's number alone.

Legend: B batch, T mel frames, M mel bins, F frames, H = W = 96, E embedding, K classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datagen.world.clip import World
from datagen.world.plan import ClipPlan
from datagen.world.pretrain.data import Shard
from datagen.world.pretrain.heard import Heard
from datagen.world.pretrain.smear import smear_frames, smear_mel
from datagen.world.pretrain.training import Figures, TrainSettings, half_precision
from datagen.world.splits import kind_of
from justdub.evaluation.world.articulation import ArticulationNet
from justdub.evaluation.world.face import FaceNet
from justdub.evaluation.world.lips import LipsNet
from justdub.evaluation.world.sound import FRAME_RATE, MEL_PER_FRAME
from justdub.evaluation.world.sync import CUT, REACH, SyncNet
from justdub.evaluation.world.voice import VoiceNet
from justdub.evaluation.world.words import WordsNet, indices

LossAt = Callable[[int], tuple[Tensor, Figures]]
_ROOM = 4  # pixels around a cut-out of the mouth, for shifting it
_WINDOW = 33  # frames of picture and of sound that the sync net sees in training
_TEMPERATURE = 0.07


@dataclass(frozen=True)
class Lesson:
    """How one judge is trained: `batch` clips (lips, face: pictures) a step."""

    batch: int = 32
    train: TrainSettings = field(default_factory=lambda: TrainSettings(steps=1000, lr=3e-3, dtype="bfloat16"))


@dataclass(frozen=True)
class Material:
    """Clips to learn from: heard ones, and drawn ones with the same numbers (clip i of `drawn` is clip i of
    `heard`)."""

    heard: Heard
    drawn: Sequence[Shard]

    @cached_property
    def plans(self) -> list[ClipPlan]:
        """What each heard clip is."""
        spec = self.heard.spec
        world = World(seed=spec.seed)
        return [world.plan(spec.first + i, spec.split) for i in range(len(self.heard))]

    @cached_property
    def dialogue(self) -> np.ndarray:
        """Numbers of the heard clips whose face speaks."""
        return np.array([i for i, plan in enumerate(self.plans) if plan.scene_type == "dialogue"])

    @property
    def pictures(self) -> int:
        """How many clips are drawn."""
        return sum(len(shard) for shard in self.drawn)

    def shard(self, clip: int) -> tuple[Shard, int]:
        """Where a clip is drawn: its shard and its place there."""
        for shard in self.drawn:
            if clip < len(shard):
                return shard, clip
            clip -= len(shard)
        raise IndexError(clip)

    def mel(self, clips: Sequence[int]) -> Tensor:
        """(B, T, M) float32, nat."""
        return torch.from_numpy(np.stack([self.heard.mel[int(clip)] for clip in clips]).astype(np.float32))

    def frames(self, places: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (N, H, W, 3) of (clip, frame), and the centres of the mouths (N, 2), pixels."""
        found = [(*self.shard(int(clip)), int(frame)) for clip, frame in places]
        box_N4 = np.stack([shard.mouth[clip, frame] for shard, clip, frame in found])
        centre_N2 = (box_N4[:, :2] + box_N4[:, 2:]) / 2
        return np.stack([shard.frames[clip, frame] for shard, clip, frame in found]), centre_N2


def words(net: WordsNet, material: Material, lesson: Lesson) -> LossAt:
    """CTC over the letters of the sentence."""
    texts: dict[int, list[int]] = {}

    def loss_at(step: int) -> tuple[Tensor, Figures]:
        rng = np.random.default_rng([lesson.train.seed + 7, step])
        clips = rng.integers(len(material.heard), size=lesson.batch)
        mel_BTM, _ = smear_mel(material.mel(clips), rng)
        with half_precision(lesson.train):
            logits_BUA = net(mel_BTM)
        for clip in clips:
            texts.setdefault(int(clip), indices(material.plans[clip].text))
        targets = [texts[int(clip)] for clip in clips]
        likely_UBA = logits_BUA.float().log_softmax(-1).transpose(0, 1)
        given = torch.full((len(clips),), len(likely_UBA))
        wanted = torch.tensor([len(target) for target in targets])
        return functional.ctc_loss(
            likely_UBA, torch.tensor([letter for target in targets for letter in target]), given, wanted
        ), {}

    return loss_at


def lips(net: LipsNet, material: Material, lesson: Lesson) -> LossAt:
    """Opening, width and place of the mouth of single frames, in pixels; the opening counts double."""

    def loss_at(step: int) -> tuple[Tensor, Figures]:
        rng = np.random.default_rng([lesson.train.seed + 11, step])
        speaking = material.dialogue[material.dialogue < material.pictures]
        clips = rng.choice(speaking, lesson.batch)
        places = rng.integers(material.heard.mouth.shape[1], size=lesson.batch)
        frames, centre_N2 = material.frames(list(zip(clips, places, strict=True)))
        mouth_N2 = np.stack([material.heard.mouth[c, f] for c, f in zip(clips, places, strict=True)])
        pixels = smear_frames(frames, rng, turn=False)
        with half_precision(lesson.train):
            found_N4 = net(pixels)
        error_N4 = found_N4 - torch.from_numpy(np.concatenate((mouth_N2, centre_N2), 1))
        weight = torch.tensor([0.5, 0.25, 0.1, 0.1])
        loss = (functional.smooth_l1_loss(error_N4, torch.zeros_like(error_N4), reduction="none") * weight).sum(1)
        return loss.mean(), {"opening_px": float(error_N4[:, 0].detach().abs().mean())}

    return loss_at


def articulation(net: ArticulationNet, material: Material, lesson: Lesson) -> LossAt:
    """Opening and width of the lips of whole clips, from sound."""

    def loss_at(step: int) -> tuple[Tensor, Figures]:
        rng = np.random.default_rng([lesson.train.seed + 13, step])
        clips = rng.choice(material.dialogue, lesson.batch)
        mel_BTM, _ = smear_mel(material.mel(clips), rng, shift=0)
        mouth_BF2 = torch.from_numpy(np.stack([material.heard.mouth[clip] for clip in clips]))
        with half_precision(lesson.train):
            found_BF2 = net(mel_BTM)
        return functional.smooth_l1_loss(found_BF2[:, : mouth_BF2.shape[1]], mouth_BF2), {}

    return loss_at


def voice(net: VoiceNet, material: Material, lesson: Lesson) -> LossAt:
    """Two clips of each voice; each must find the other among voices of one age and gender."""
    people = _People([plan.voice for plan in material.plans])

    def loss_at(step: int) -> tuple[Tensor, Figures]:
        rng = np.random.default_rng([lesson.train.seed + 17, step])
        mel_BTM, _ = smear_mel(material.mel(people.pairs(rng, lesson.batch)), rng, colour=False)
        with half_precision(lesson.train):
            vectors_BE = net(mel_BTM)
        return _find_each_other(vectors_BE.float())

    return loss_at


def face(net: FaceNet, material: Material, lesson: Lesson) -> LossAt:
    """Two clips of each face; each must find the other among faces of one age and gender."""
    people = _People([plan.face for plan in material.plans[: material.pictures]])

    def loss_at(step: int) -> tuple[Tensor, Figures]:
        rng = np.random.default_rng([lesson.train.seed + 19, step])
        clips = people.pairs(rng, lesson.batch)
        places = rng.integers(material.heard.mouth.shape[1], size=len(clips))
        frames, _ = material.frames(list(zip(clips, places, strict=True)))
        pixels = smear_frames(frames, rng)
        with half_precision(lesson.train):
            vectors_BE = net(pixels)
        return _find_each_other(vectors_BE.float())

    return loss_at


class _People:
    """Clips by person (voice or face number), and persons by age and gender."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.clips_of: dict[int, list[int]] = defaultdict(list)
        for clip, number in enumerate(numbers):
            self.clips_of[number].append(clip)
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, clips in self.clips_of.items():
            if len(clips) > 1:
                kind = kind_of(number)
                groups[kind.gender, kind.age].append(number)
        self.groups = [groups[kind] for kind in sorted(groups)]

    def pairs(self, rng: np.random.Generator, batch: int) -> np.ndarray:
        """(B,) clips of persons of one kind; clips i and i + B / 2 are of one person."""
        group = self.groups[rng.integers(len(self.groups))]
        chosen = rng.choice(group, batch // 2, replace=False)
        return np.stack([rng.choice(self.clips_of[int(number)], 2, replace=False) for number in chosen], 1).ravel()


def _find_each_other(vectors_BE: Tensor) -> tuple[Tensor, Figures]:
    """Vectors i and i + B / 2 belong together: cross entropy of finding one from the other, both ways."""
    first, second = vectors_BE.chunk(2)
    logits = first @ second.T / _TEMPERATURE
    wanted = torch.arange(len(first))
    loss = functional.cross_entropy(logits, wanted) + functional.cross_entropy(logits.T, wanted)
    return loss / 2, {"right": float((logits.argmax(1) == wanted).float().mean())}


def sync(net: SyncNet, material: Material, lesson: Lesson, cuts: np.ndarray, clips_N: np.ndarray) -> LossAt:
    """Windows of picture and sound of one clip at different starts: each frame, and the clip as a whole, must find the
    moment of the sound it belongs to. Different starts keep the net from comparing distances to the edges.

    Args:
        cuts: uint8 (N, F, P, P, 3) from `cut_mouths`. clips_N: their numbers.
    """

    def loss_at(step: int) -> tuple[Tensor, Figures]:
        rng = np.random.default_rng([lesson.train.seed + 23, step])
        chosen = rng.integers(len(clips_N), size=lesson.batch)
        last = cuts.shape[1] - _WINDOW
        seen_at = rng.integers(last + 1, size=lesson.batch)
        heard_at = np.clip(seen_at + rng.integers(-REACH, REACH + 1, lesson.batch), 0, last)
        pictures = []
        for clip, start in zip(chosen, seen_at, strict=True):
            y, x = rng.integers(2 * _ROOM + 1, size=2)
            pictures.append(cuts[clip, start : start + _WINDOW, y : y + CUT, x : x + CUT])
        mel_BTM, _ = smear_mel(material.mel(clips_N[chosen]), rng, shift=0)
        mel_BTM = torch.stack(
            [mel[MEL_PER_FRAME * s : MEL_PER_FRAME * (s + _WINDOW)] for mel, s in zip(mel_BTM, heard_at, strict=True)]
        )
        pixels = smear_frames(np.concatenate(pictures), rng, turn=False)
        with half_precision(lesson.train):
            seen_BFE = net.see(pixels.unflatten(0, (lesson.batch, _WINDOW)))
            heard_BFE = net.hear(mel_BTM)
        likeness_BFF = seen_BFE @ heard_BFE.transpose(1, 2)
        frame = np.arange(_WINDOW)
        wanted_BF = frame[None] + (seen_at - heard_at)[:, None]
        time_BF = (frame[None] + seen_at[:, None]) / FRAME_RATE
        speech_B2 = np.stack([material.heard.speech[clip] for clip in clips_N[chosen]])
        usable = (wanted_BF >= 0) & (wanted_BF < _WINDOW)
        usable &= (time_BF > speech_B2[:, :1]) & (time_BF < speech_B2[:, 1:])
        usable_BF = torch.from_numpy(usable)
        target_BF = torch.from_numpy(np.clip(wanted_BF, 0, _WINDOW - 1))
        by_frame = functional.cross_entropy(likeness_BFF[usable_BF] / _TEMPERATURE, target_BF[usable_BF])
        shift_O = torch.arange(-2 * REACH, 2 * REACH + 1)
        place_BFO = target_BF[..., None] + shift_O
        there = (place_BFO >= 0) & (place_BFO < _WINDOW) & usable_BF[..., None]
        at_shift = likeness_BFF.gather(2, place_BFO.clamp(0, _WINDOW - 1)) * there
        curve_BO = at_shift.sum(1) / there.sum(1).clamp(min=1)
        counted = there.sum(1) >= 8
        curve_BO = (curve_BO / 0.02).masked_fill(~counted, -1e4)
        valid_B = counted[:, 2 * REACH]
        whole = functional.cross_entropy(curve_BO[valid_B], torch.full((int(valid_B.sum()),), 2 * REACH))
        right = (curve_BO[valid_B].argmax(1) - 2 * REACH).abs().le(1).float().mean()
        return by_frame + 0.5 * whole, {"within_1": float(right)}

    return loss_at


def cut_mouths(material: Material, clips_N: np.ndarray, path: Path) -> np.ndarray:
    """uint8 (N, F, P, P, 3) around the mouths, with room to shift them; kept at `path`."""
    side, frames = CUT + 2 * _ROOM, material.heard.mouth.shape[1]
    shape = (len(clips_N), frames, side, side, 3)
    if path.exists():
        return np.memmap(path, "uint8", "r", shape=shape)
    partial = path.with_suffix(".partial")
    cuts = np.memmap(partial, "uint8", "w+", shape=shape)
    for place, clip in enumerate(clips_N):
        shard, number = material.shard(int(clip))
        picture, box_F4 = shard.frames[number], shard.mouth[number]
        corner_F2 = np.clip(np.round((box_F4[:, :2] + box_F4[:, 2:]) / 2 - side / 2), 0, 96 - side).astype(int)
        for frame, (x, y) in enumerate(corner_F2):
            cuts[place, frame] = picture[frame, y : y + side, x : x + side]
    cuts.flush()
    partial.rename(path)
    return cuts
