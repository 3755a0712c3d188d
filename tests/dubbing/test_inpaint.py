"""A part of a clip generated anew: the rest stays, to the bit where it is pasted."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from tiny_training import tiny, tiny_folder  # noqa: F401

from justdub.dubbing.inpaint import audio_steps, inpaint
from justdub.dubbing.pipeline import DubPipeline
from justdub.dubbing.settings import DubSettings

SETTINGS = DubSettings(seed=3, steps=2, guidance=1.0, audio_guidance=1.0, size=(96, 64))


@pytest.fixture
def pipe(tiny) -> DubPipeline:  # noqa: F811
    return DubPipeline(tiny)


def clip(pipe: DubPipeline) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (17, 64, 96, 3), np.uint8)
    samples = rng.standard_normal((pipe.backbone.audio_codec.channels, 10880)).astype(np.float32) * 0.1
    return frames, samples


@pytest.mark.parametrize("clean", [True, False])
def test_only_the_masked_part_changes(pipe: DubPipeline, clean: bool) -> None:
    frames, samples = clip(pipe)
    cells = torch.zeros(3, 2, 3, dtype=torch.bool)
    cells[1:, 1, 1] = True
    steps = audio_steps(pipe, Fraction(17, 25), 0.3, 0.5)
    made = inpaint(
        pipe,
        frames,
        samples,
        cells_fhw=cells,
        steps_T=steps,
        prompt="Yes.",
        frame_rate=25,
        settings=SETTINGS,
        clean=clean,
    )
    changed = (made.frames_FHW3 != frames).any(-1)
    assert changed[1:, 32:, 32:64].any() and changed.sum() == changed[1:, 32:, 32:64].sum()
    assert made.audio_CS.shape == samples.shape
    rate = pipe.backbone.audio_codec.sample_rate
    assert np.abs(made.audio_CS - samples)[:, round(0.33 * rate) : round(0.45 * rate)].max() > 1e-3
    assert np.array_equal(made.audio_CS[:, : round(0.24 * rate)], samples[:, : round(0.24 * rate)])
    assert np.array_equal(made.audio_CS[:, round(0.56 * rate) :], samples[:, round(0.56 * rate) :])


def test_sound_alone_and_picture_alone(pipe: DubPipeline) -> None:
    frames, samples = clip(pipe)
    none, every = torch.zeros(3, 2, 3, dtype=torch.bool), torch.ones(3, 2, 3, dtype=torch.bool)
    silent = audio_steps(pipe, Fraction(17, 25), -2, -1)
    assert not silent.any()
    sound = inpaint(
        pipe, frames, samples, cells_fhw=none, steps_T=~silent, prompt="Yes.", frame_rate=25, settings=SETTINGS
    )
    assert np.array_equal(sound.frames_FHW3, frames) and not np.array_equal(sound.audio_CS, samples)
    picture = inpaint(
        pipe, frames, samples, cells_fhw=every, steps_T=silent, prompt="Yes.", frame_rate=25, settings=SETTINGS
    )
    assert np.array_equal(picture.audio_CS, samples) and not np.array_equal(picture.frames_FHW3, frames)


def test_what_is_given_reaches_the_model_and_what_is_masked_does_not(pipe: DubPipeline) -> None:
    """The generated part depends on the given part, and not on what was there before."""
    frames, samples = clip(pipe)
    cells = torch.zeros(3, 2, 3, dtype=torch.bool)
    cells[:, 1, 1] = True
    silent = audio_steps(pipe, Fraction(17, 25), -2, -1)

    def masked_part(given: np.ndarray) -> torch.Tensor:
        from justdub.sequence import Known, SequenceRules, plan_sequence

        video = pipe.backbone.video_codec.encode(given)
        plan = plan_sequence(
            video_target_BCFHW=torch.where(cells, video + shift, video), audio_target_BCTM=audio,
            video_reference_BCFHW=None, audio_reference_BCTM=None, frame_rate=25,
            geometry=pipe.backbone.transformer.geometry, rules=SequenceRules(),
            known=Known(~cells[None], torch.ones(1, audio.shape[2], dtype=torch.bool)),
        )  # fmt: skip
        return pipe.denoise(plan, "Yes.", SETTINGS).video_BCFHW[0][:, cells]

    audio = pipe.backbone.audio_codec.encode(samples)
    assert len(silent) in (audio.shape[2], audio.shape[2] + 1)
    shift = 0.0
    first = masked_part(frames)
    shift = 5.0
    assert torch.equal(masked_part(frames), first), "what lies under the mask is not read"
    shift = 0.0
    assert not torch.allclose(masked_part(255 - frames), first)
