"""An adapter trained on an official single file: five steps, exported, read again, and heard in a dub."""

from __future__ import annotations

import json
from pathlib import Path

import clips
import numpy as np
import official_files
import pytest

from justdub import jobs
from justdub.dubbing.pipeline import DubPipeline
from justdub.lora.files import read
from justdub.training import run
from justdub.training.config import TrainJob

FAST = {"steps": 1, "guidance": 1.0, "audio_guidance": 1.0, "size": (64, 64)}


@pytest.mark.parametrize("generation", ["2.0", "2.3"])
def test_five_steps_on_an_official_file(generation: str, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    base = official_files.write(tmp_path / "base", generation)
    for name, pitch in (("target", 0), ("reference", 1)):
        clips.make_clip(tmp_path / f"{name}.mp4", seconds=0.72 + 0.08 * pitch, size=(64, 64))
    entry = {"caption": "The man is speaking French.", "media_path": "target.mp4", "reference_path": "reference.mp4"}
    (tmp_path / "dataset.json").write_text(json.dumps([entry]))
    tree = {
        "out": str(tmp_path / "run"), "backbone": str(base.path), "text_encoder": str(base.text_encoder),
        "data": {"list": str(tmp_path / "dataset.json"), "buckets": ["64x64x17"]}, "lora": {"rank": 2},
        "rules": {"reference": "isolated"}, "optimizer": {"rate": 0.05, "warmup": 0}, "train": {"steps": 5, "batch": 1},
    }  # fmt: skip
    job = jobs.build(TrainJob, tree)
    assert run.survey(job).clips == 1
    made = run.run(job)
    adapter = read(made.adapter)
    assert adapter.metadata.steps == 5 and adapter.metadata.fingerprint

    pipe = DubPipeline.from_pretrained(base.path, text_encoder=base.text_encoder, device="cpu", dtype="float32")
    bare = pipe(tmp_path / "reference.mp4", prompt="Bonjour.", **FAST)
    pipe.load_adapter(adapter)
    taught = pipe(tmp_path / "reference.mp4", prompt="Bonjour.", **FAST)
    assert pipe.rules.reference == "isolated"
    assert not np.array_equal(bare.audio_CS, taught.audio_CS)
