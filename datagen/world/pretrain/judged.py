"""How good the judges are on clips of the `test` split: voices, faces and sentences that no training saw.

Legend: S samples, F frames, N clips, E embedding, P persons.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datagen.world.clip import World
from datagen.world.plan import ClipPlan
from datagen.world.pretrain.data import Shard, ShardSpec, open_or_draw
from datagen.world.pretrain.heard import HeardSpec, hear
from justdub.evaluation.world import scores
from justdub.evaluation.world.judges import Judges
from justdub.evaluation.world.sound import SAMPLE_RATE
from justdub.evaluation.world.table import Clip, judge, shuffled, summary
from justdub.evaluation.world.words import distance, words_of

_PERSONS = 100  # among whom a voice or a face must be found
_SHIFTS = (-5, -3, 3, 5)  # frames


def figures(
    judges: Judges,
    shards: Path,
    heard_spec: HeardSpec,
    drawn_spec: ShardSpec,
    audio_vae: str = "",
    report: Callable[[dict], None] | None = None,
) -> dict[str, Any]:
    """Figures of every judge; each is explained where it is made.

    Args:
        audio_vae: folder of an audio codec; words are heard once more from spectrograms that went through it.
    """
    world = World(seed=heard_spec.seed)
    plans = [world.plan(heard_spec.first + i, heard_spec.split) for i in range(heard_spec.clips)]
    heard = hear(shards, heard_spec, report)
    shard = open_or_draw(shards, drawn_spec, report)
    return {
        "words": words(judges, plans, heard.mel),
        "words_through_codec": words(judges, plans, _through_codec(audio_vae, heard.mel)) if audio_vae else {},
        "lips": lips(judges, shard),
        "voice": voice(judges, world, plans),
        "face": face(judges, plans),
        **together(judges, shard),
    }


def _through_codec(folder: str, mel_NTM: np.ndarray) -> Iterator[np.ndarray]:
    """Each spectrogram (T, M) encoded and decoded."""
    from diffusers import AutoencoderKLLTX2Audio

    vae = AutoencoderKLLTX2Audio.from_pretrained(folder, torch_dtype=torch.float32).eval()
    for mel_TM in mel_NTM:
        with torch.inference_mode():
            latents = vae.encode(torch.from_numpy(mel_TM.astype(np.float32))[None, None]).latent_dist.mode()
            yield vae.decode(latents).sample[0, 0].numpy()


def words(judges: Judges, plans: list[ClipPlan], mel_NTM: Iterable[np.ndarray]) -> dict[str, Any]:
    """Word accuracy (mean of clips), share of languages right and letter error rate, in all and by kind of clip."""
    found: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    errors = letters = 0
    for plan, mel_TM in zip(plans, mel_NTM, strict=True):
        heard, wanted = judges.words.read(mel_TM), words_of(plan.text)
        one = scores.word_accuracy(heard.words, wanted), heard.language == plan.language
        errors += distance(heard.letters, " ".join(wanted))
        letters += len(" ".join(wanted))
        sound = f"ambience {plan.ambience}" if plan.ambience else "no ambience"
        laughs = ("laughter possible",) if plan.laughs else ()
        clean = ("clean dialogue",) if plan.scene_type == "dialogue" and not plan.ambience and not plan.laughs else ()
        for group in ("all", *clean, plan.scene_type, sound, plan.style, plan.language, *laughs):
            found[group].append(one)
    groups = {
        group: {
            "clips": len(pairs),
            "word_accuracy": float(np.mean([accuracy for accuracy, _ in pairs])),
            "language_right": float(np.mean([right for _, right in pairs])),
        }
        for group, pairs in sorted(found.items())
    }
    return {"letter_error_rate": errors / letters, **groups}


def lips(judges: Judges, shard: Shard) -> dict[str, float]:
    """Correlation with the truth over all frames of all clips, mean of clips where the mouth moves, and mean absolute
    errors in pixels."""
    spec = shard.spec
    world = World(seed=spec.seed)
    takes = [world.perform(world.plan(spec.first + i, spec.split)) for i in range(len(shard))]
    true_NF2 = np.stack([np.stack((take.mouth.opening_F, take.mouth.width_F), 1) for take in takes])
    found_NF4 = np.stack([judges.lips.read(frames) for frames in shard.frames])
    halved_NF4 = np.stack([judges.lips.read(_halved(frames)) for frames in shard.frames])
    centre_NF2 = (shard.mouth[..., :2] + shard.mouth[..., 2:]) / 2
    moving = true_NF2[..., 0].std(1) > 0.1
    result = {}
    for place, name in enumerate(("opening", "width")):
        true_NF, found_NF = true_NF2[..., place], found_NF4[..., place]
        pairs = zip(found_NF[moving], true_NF[moving], strict=True)
        result |= {
            f"{name}_correlation": scores.correlation(found_NF.ravel(), true_NF.ravel()),
            f"{name}_correlation_in_clip": float(np.mean([scores.correlation(a, b) for a, b in pairs])),
            f"{name}_error_px": float(np.abs(found_NF - true_NF).mean()),
        }
    pairs = zip(halved_NF4[moving, :, 0], true_NF2[moving, :, 0], strict=True)
    result["opening_correlation_in_clip_at_48_px"] = float(np.mean([scores.correlation(a, b) for a, b in pairs]))
    result["centre_error_px"] = float(np.linalg.norm(found_NF4[..., 2:] - centre_NF2, axis=-1).mean())
    heard = [judges.articulation.expect(take.samples, spec.frames)[:, 0] for take in takes]
    pairs = [(heard[i], true_NF2[i, :, 0]) for i in np.flatnonzero(moving)]
    result["articulation_correlation_in_clip"] = float(np.mean([scores.correlation(a, b) for a, b in pairs]))
    return result


def _halved(frames_FHW3: np.ndarray) -> np.ndarray:
    """Frames of half the side."""
    count, height, width, _ = frames_FHW3.shape
    return frames_FHW3.reshape(count, height // 2, 2, width // 2, 2, 3).mean((2, 4)).round().astype(np.uint8)


def voice(judges: Judges, world: World, plans: list[ClipPlan]) -> dict[str, float]:
    """Retrieval of a voice among 100 by another of its clips."""
    clips_of: dict[int, list[ClipPlan]] = defaultdict(list)
    for plan in plans:
        clips_of[plan.voice].append(plan)
    pairs = [tuple(clips[:2]) for clips in clips_of.values() if len(clips) > 1][:_PERSONS]
    vectors = [[judges.voice.embed(world.perform(plan).samples) for plan in pair] for pair in pairs]
    return _retrieval(np.array(vectors))


def face(judges: Judges, plans: list[ClipPlan]) -> dict[str, float]:
    """Retrieval of a face among 100 by another of its clips: other scene, movement, style and sentence."""
    world = World(seed=plans[0].seed, frames=9)
    first: dict[int, ClipPlan] = {}
    for plan in plans:
        first.setdefault(plan.face, plan)
    chosen = list(first.values())[: 2 * _PERSONS]
    vectors = []
    for plan, other in zip(chosen[:_PERSONS], chosen[_PERSONS:], strict=True):
        batch = world.render([plan, replace(other, face=plan.face)])
        vectors.append([judges.face.embed(frames) for frames in batch.frames.numpy()])
    return _retrieval(np.array(vectors))


def _retrieval(vectors_P2E: np.ndarray) -> dict[str, float]:
    """Share of persons whose first clip is nearest to their second of all second clips, and mean likenesses."""
    likeness_PP = vectors_P2E[:, 0] @ vectors_P2E[:, 1].T
    persons = len(likeness_PP)
    same = np.eye(persons, dtype=bool)
    place_P = (likeness_PP > likeness_PP[same][:, None]).sum(1)
    return {
        "persons": persons,
        "top_1": float((place_P == 0).mean()),
        "top_5": float((place_P < 5).mean()),
        "chance": 1 / persons,
        "likeness_same": float(likeness_PP[same].mean()),
        "likeness_other": float(likeness_PP[~same].mean()),
    }


def together(judges: Judges, shard: Shard) -> dict[str, Any]:
    """Rows of the table for true and shuffled dialogue clips, and whether the sync judge finds a sound that was moved
    by a known number of frames (within one frame)."""
    spec = shard.spec
    world = World(seed=spec.seed)
    plans = [world.plan(spec.first + i, spec.split) for i in range(len(shard))]
    clips = [
        Clip(frames, samples.astype(np.float32) / 32767, plan.text, plan.language)
        for frames, samples, plan in zip(shard.frames, shard.samples, plans, strict=True)
        if plan.scene_type == "dialogue"
    ]
    step = SAMPLE_RATE // world.frame_rate.numerator
    moved = []
    for place, clip in enumerate(clips):
        shift = _SHIFTS[place % len(_SHIFTS)]
        found = judge(judges, clip._replace(samples=moved_by(clip.samples, shift * step))).offset
        moved.append(abs(found - shift) <= 1)
    rows = {"truth": clips, "shuffled": shuffled(clips)}
    return {
        "sync": {"clips": len(clips), "moved_found_within_1": float(np.mean(moved))},
        **{name: summary([judge(judges, clip) for clip in row]) for name, row in rows.items()},
    }


def moved_by(samples_S: np.ndarray, shift: int) -> np.ndarray:
    """The sound `shift` samples later (negative: earlier), as long as before, silence where there is nothing."""
    moved = np.zeros_like(samples_S)
    if shift >= 0:
        moved[shift:] = samples_S[: len(samples_S) - shift]
    else:
        moved[:shift] = samples_S[-shift:]
    return moved
