"""Folders of the reference and the official trainer: read as they are, wrong ones named."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from test_loop import job
from tiny_training import GRID, SIZE, STEPS, one_process

from justdub.errors import BadInputError, MissingError
from justdub.training.cache import Cache
from justdub.training.loop import Trainer
from justdub.training.precomputed import take_over

PROMPT = "The woman is speaking French."


def write_folder(folder: Path, backbone, clips: int = 2, *, official: bool = False) -> Path:
    """As the trainers' own processing writes it: video latents bfloat16, audio float32, text before the connectors."""
    generator = torch.Generator().manual_seed(0)
    config, pipeline = backbone.pipeline.transformer.config, backbone.pipeline
    bins = config.audio_in_channels // SIZE.audio_channels
    states, mask, _, _ = pipeline.encode_prompt(PROMPT, do_classifier_free_guidance=False, max_sequence_length=64)
    projected = {}
    handle = pipeline.connectors.video_connector.register_forward_pre_hook(
        lambda module, inputs: projected.update(states=inputs[0])
    )
    pipeline.connectors(states, mask)
    handle.remove()
    features = projected["states"][0]
    for number in range(clips):
        contents = {
            "latents": {"latents": torch.randn(SIZE.video_channels, *GRID, generator=generator).bfloat16(),
                        "num_frames": GRID[0], "height": GRID[1], "width": GRID[2], "fps": 25.0},
            "audio_latents": {"latents": torch.randn(SIZE.audio_channels, STEPS, bins, generator=generator),
                              "num_time_steps": STEPS, "frequency_bins": bins, "duration": 0.68},
        }  # fmt: skip
        contents["reference_latents"] = {"latents": contents["latents"]["latents"] * 0.5, "fps": 25.0}
        contents["reference_audio_latents"] = {"latents": contents["audio_latents"]["latents"] * 0.5}
        text = {"prompt_attention_mask": mask[0]}
        if official:
            text |= {"video_prompt_embeds": features, "audio_prompt_embeds": features}
            contents["video_masks"] = {"mask": torch.ones(GRID)}
        else:
            text |= {"prompt_embeds": features}
            contents["masks"] = {"masks": (torch.arange(12.0).view(GRID) > 6).float()}
        contents["conditions"] = text
        for part, content in contents.items():
            path = folder / part / "scene" / f"{number}.pt"
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(content, path)
    return folder


@pytest.mark.parametrize("official", [False, True])
def test_latents_text_and_masks_are_taken_over(tmp_path, tiny, official):
    folder = write_folder(tmp_path / ".precomputed", tiny, official=official)
    found = take_over(folder, Cache(tmp_path / "cache"), lambda: tiny)
    assert len(found.pairs) == 2 and not found.faults
    sample = found.cache.read_sample(found.pairs[0].sample)
    saved = torch.load(folder / "latents" / "scene" / "0.pt", weights_only=True)["latents"]
    torch.testing.assert_close(sample.video_target_Cfhw.float(), saved.float(), atol=2e-3, rtol=2e-3)
    assert found.pairs[0].cut.frames == 17 and found.pairs[0].frame_rate == 25
    assert sample.mask_fhw.sum() == (0 if official else 5), "polarities differ: 1 is learned here and given there"
    text, own = found.cache.read_text(found.pairs[0].texts[0]), tiny.text.encode(PROMPT)
    torch.testing.assert_close(text.video_BLD, own.video_BLD, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(text.audio_BLD, own.audio_BLD, atol=1e-4, rtol=1e-4)


def test_it_trains(tmp_path, tiny):
    found = take_over(write_folder(tmp_path / "p", tiny), Cache(tmp_path / "cache"), lambda: tiny)
    outcome = Trainer(job(tmp_path / "out", train__steps=2), tiny, found, one_process()).run()
    assert outcome.adapter.exists()


def test_faults_are_named(tmp_path, tiny):
    folder = write_folder(tmp_path / "p", tiny, clips=5)
    (folder / "audio_latents" / "scene" / "0.pt").unlink()
    (folder / "latents" / "scene" / "1.pt").write_bytes(pickle.dumps(Path("code")))
    torch.save({"latents": torch.zeros(3, *GRID)}, folder / "latents" / "scene" / "2.pt")
    torch.save({"latents": torch.full((SIZE.video_channels, *GRID), torch.nan)}, folder / "latents" / "scene" / "3.pt")
    found = take_over(folder, Cache(tmp_path / "cache"), lambda: tiny, broken_limit=1.0)
    said = [fault.reason for fault in found.faults]
    assert len(found.pairs) == 1
    for number, part in enumerate(("no audio_latents", "cannot be read", "audio channels a token", "not finite")):
        assert part in said[number] and f"{number}.pt" in said[number]
    with pytest.raises(BadInputError, match="pairs cannot be used"):
        take_over(folder, Cache(tmp_path / "other"), lambda: tiny)
    with pytest.raises(MissingError, match="no reference_latents"):
        (tmp_path / "empty" / "latents").mkdir(parents=True)
        take_over(tmp_path / "empty", Cache(tmp_path / "cache"), lambda: tiny)
