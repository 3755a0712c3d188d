"""The plan of a job agrees with what the run then does."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from test_loop import job
from tiny_training import one_process

from justdub import jobs
from justdub.backbone import checkpoint as backbones
from justdub.backbone import eight_bits
from justdub.tokens import Geometry
from justdub.training.cache import Cut
from justdub.training.config import TrainJob
from justdub.training.loop import Trainer
from justdub.training.plan import plan, tokens_of


def test_tokens_are_those_of_the_sequence():
    geometry = Geometry()
    assert tokens_of(Cut(960, 544, 121), Fraction(25), geometry) == (8160, 122)
    assert tokens_of(Cut(640, 352, 121), Fraction(25), geometry) == (3520, 122)
    mini = Geometry(frames_per_latent=4, pixels_per_latent=16, patch=2)
    assert tokens_of(Cut(96, 96, 49), Fraction(25), mini) == (117, 50)


def test_the_plan_counts_what_is_trained(tmp_path, tiny, tiny_folder, pairs):
    settings = job(tmp_path / "out")
    tree = settings.plain() | {"backbone": str(tiny_folder)}
    planned = plan(jobs.build(TrainJob, tree), 6, 1, Counter({(12, 9): 6}))
    run = Trainer(settings, tiny, pairs, one_process())
    assert sum(planned.trained.values()) == sum(p.numel() for p in run.named.values())
    assert planned.frozen == sum(p.numel() for p in backbones.load(tiny_folder).transformer.module.parameters())
    text = planned.text()
    for part in (
        "6 usable, 1 left out",
        "12 video and 9 audio",
        "cross-modal attention",
        "feed-forward",
        "at the peak",
    ):
        assert part in text
    assert planned.memory["adapter, gradients, optimizer"] == 16 * sum(planned.trained.values())


def test_a_base_in_eight_bits_is_planned_as_it_is_stored(tmp_path, tiny_folder):
    tree = job(tmp_path / "out", train__quantization="fp8").plain() | {"backbone": str(tiny_folder)}
    planned = plan(jobs.build(TrainJob, tree), 6, 0, Counter({(12, 9): 6}))
    module = backbones.load(tiny_folder).transformer.module
    eight_bits.store(module)
    scales = sum(b.nbytes for name, b in module.named_buffers() if name.endswith("scale_O"))
    assert planned.memory["frozen transformer"] == scales + sum(p.nbytes for p in module.parameters())
