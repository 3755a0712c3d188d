"""Two processes that share the video tokens give what one gives."""

from __future__ import annotations

import contextlib
import queue
import socket

import models
import pytest
import torch

from justdub.backbone import parallel
from justdub.backbone.parallel import ContextParallel
from justdub.errors import UsageError
from justdub.sequence import SequenceRules

CASES = {
    "bidirectional": ("2.0", SequenceRules(keep_first_frame=True), {}),
    "isolated": ("2.0", SequenceRules(reference="isolated"), {}),
    "full": ("2.0", SequenceRules(cross_modal="full", audio_positions="negative"), {}),
    "2.3": ("2.3", SequenceRules(), {}),
    "no reference": ("2.0", SequenceRules(), {"reference": False}),
}


def outputs(case: str, *, divide_text: bool | None = None) -> list[torch.Tensor]:
    """Velocities of one model, plain, perturbed, and through the cache."""
    generation, rules, more = CASES[case]
    model = models.joint(generation)
    if divide_text is not None:
        parallel.enable(model, split_text=divide_text)
    plan, text = models.plan(model, rules, grid=(3, 2, 2), **more), models.text_context(tokens=6)
    generator = torch.Generator().manual_seed(3)
    video, audio = (torch.randn(s.clean_BNC.shape, generator=generator) for s in (plan.video, plan.audio))
    sigma_B = torch.full((1,), 0.7)
    made = []
    with torch.no_grad():
        sequence = plan.at(video, audio, sigma_B, sigma_B)
        made.append(model.velocity(sequence, text))
        made.append(model.velocity(sequence, text, skip_self_attention_blocks=frozenset({1}), skip_cross_modal=True))
        if rules.reference == "isolated":
            cache = model.prefill(plan.reference_only(), text)
            made.append(model.velocity(plan.without_reference().at(video, audio, sigma_B, sigma_B), text, cache=cache))
    return [tensor for one in made for tensor in (one.video_BNC, one.audio_BNC)]


def _worker(rank: int, port: int, results) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for case in CASES:
        for divide_text in (False, True):
            results.put((rank, case, divide_text, [t.numpy() for t in outputs(case, divide_text=divide_text)]))
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_equal_one() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_worker, args=(rank, port, results)) for rank in range(2)]
    for process in processes:
        process.start()
    found = []
    while len(found) < 2 * 2 * len(CASES):
        assert all(process.exitcode in (None, 0) for process in processes), "a process ended early"
        with contextlib.suppress(queue.Empty):
            found.append(results.get(timeout=5))
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    alone = {case: outputs(case) for case in CASES}
    worst = 0.0
    for _, case, _, arrays in found:
        assert len(arrays) == len(alone[case])
        for array, tensor in zip(arrays, alone[case], strict=True):
            worst = max(worst, (torch.from_numpy(array) - tensor).abs().max().item())
    assert worst < 1e-5
    assert max(t.abs().max().item() for ts in alone.values() for t in ts) > 0.1


def test_arranging_is_undone() -> None:
    model = models.joint()
    plan = models.plan(model, grid=(3, 2, 2))
    sigma_B = torch.ones(1)
    sequence = plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, sigma_B, sigma_B)
    two = ContextParallel(2)
    arranged = two.arrange(sequence)
    assert (arranged.layout.video.reference, arranged.layout.video.target) == (6, 6)
    assert not torch.equal(arranged.video.tokens_BNC, sequence.video.tokens_BNC)
    assert torch.equal(two.restore(arranged.video.tokens_BNC, sequence.layout), sequence.video.tokens_BNC)
    with pytest.raises(UsageError, match="equal shares"):
        ContextParallel(5).arrange(sequence)


def test_a_single_process_is_told_how_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UsageError, match="torchrun"):
        parallel.start("cpu")
