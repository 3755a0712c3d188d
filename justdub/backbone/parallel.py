"""One dub on several GPUs of one machine: each holds a share of the video tokens (context parallelism of diffusers).

    whole sequence   [ reference                | target                ]
    arranged         [ reference a | target a ] [ reference b | target b ]      rank 0, rank 1
    audio, text      the same on every rank

Attention exchanges heads for tokens (Ulysses), so every rank attends with its heads over all tokens. Audio tokens, and
text that cannot be divided, are there once per rank: keys that all occur equally often leave a softmax as it was. The
share of a rank is again [reference | target], so the slices of `attention.py` work on it as they are; positions travel
with the tokens, so their order means nothing.

diffusers' own plan for this model splits the rotary embeddings along the wrong axis; `plan` is ours.

Letters: B batch, N tokens, C channels, D position axes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from justdub.errors import UsageError
from justdub.sequence import Layout, Sequence, StreamLayout


@dataclass(frozen=True)
class ContextParallel:
    """How sequences are arranged for `world` ranks."""

    world: int

    def layout(self, layout: Layout) -> Layout:
        """Of the share of one rank.

        Raises:
            UsageError: the video tokens cannot be shared equally.
        """
        video = layout.video
        if video.reference % self.world or video.target % self.world:
            raise UsageError(
                f"{video.target} target and {video.reference} reference video tokens on {self.world} GPUs",
                expected="equal shares",
                remedy="another --size, or another number of GPUs",
            )
        return Layout(StreamLayout(video.reference // self.world, video.target // self.world), layout.audio)

    def _order(self, layout: Layout, device: torch.device) -> Tensor:
        """(N,) where each arranged video token comes from."""
        reference = torch.arange(layout.video.reference, device=device).chunk(self.world)
        target = torch.arange(layout.video.reference, layout.video.length, device=device).chunk(self.world)
        if layout.video.reference == 0:
            return torch.cat(target)
        if layout.video.target == 0:
            return torch.cat(reference)
        return torch.cat([torch.cat(pair) for pair in zip(reference, target, strict=True)])

    def arrange(self, sequence: Sequence) -> Sequence:
        """The same tokens, so that an equal cut gives every rank its share; the layout is that of a share."""
        here, video = self.layout(sequence.layout), sequence.video
        order_N = self._order(sequence.layout, video.tokens_BNC.device)
        arranged = replace(
            video,
            tokens_BNC=video.tokens_BNC[:, order_N],
            timesteps_BN=video.timesteps_BN[:, order_N],
            positions_BDN2=video.positions_BDN2[:, :, order_N],
        )
        return replace(sequence, video=arranged, layout=here)

    def restore(self, video_BNC: Tensor, layout: Layout) -> Tensor:
        """Gathered rows in the order of the whole sequence."""
        order_N = self._order(layout, video_BNC.device)
        return video_BNC[:, torch.argsort(order_N)]


def plan(*, split_text: bool) -> dict[str, Any]:
    """What diffusers cuts before the transformer and puts together after it.

    Args:
        split_text: the text can be divided by the number of ranks.
    """
    from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput

    cut = {
        "hidden_states": ContextParallelInput(split_dim=1, expected_dims=3),
        "timestep": ContextParallelInput(split_dim=1, expected_dims=2),
        "video_coords": ContextParallelInput(split_dim=2, expected_dims=4),
    }
    if split_text:
        cut |= {
            name: ContextParallelInput(split_dim=1, expected_dims=3)
            for name in ("encoder_hidden_states", "audio_encoder_hidden_states")
        }
    return {"": cut, "proj_out": ContextParallelOutput(gather_dim=1, expected_dims=3)}


def enable(transformer: Any, *, split_text: bool) -> None:
    """Let a `JointTransformer` run on all ranks of the process group.

    Raises:
        UsageError: heads that cannot be shared equally.
    """
    import torch.distributed as dist
    from diffusers import ContextParallelConfig

    world, config = dist.get_world_size(), transformer.module.config
    if config.num_attention_heads % world or config.audio_num_attention_heads % world:
        raise UsageError(
            f"{config.num_attention_heads} and {config.audio_num_attention_heads} heads on {world} GPUs",
            expected="a number of GPUs that divides both",
        )
    with _cpu_counts(), _quiet():
        transformer.module.enable_parallelism(
            config=ContextParallelConfig(ulysses_degree=world), cp_plan=plan(split_text=split_text)
        )
    transformer.parallel = ContextParallel(world)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without diffusers' notice that this is experimental there."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def _cpu_counts() -> Iterator[None]:
    """diffusers divides by the number of accelerators, which is 0 on a machine that only has a CPU."""
    count = torch.accelerator.device_count
    if count() == 0:
        torch.accelerator.device_count = lambda: 1
    try:
        yield
    finally:
        torch.accelerator.device_count = count


def start(device: str) -> tuple[int, torch.device]:
    """Join the processes that ``torchrun`` started on this machine.

    Returns:
        This process's rank, and its device.

    Raises:
        UsageError: not started by torchrun.
    """
    import torch.distributed as dist

    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        raise UsageError(
            "--parallel in a single process",
            expected="one process per GPU",
            remedy="torchrun --standalone --nproc-per-node 2 infer.py ...",
        )
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    here = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(here)
    dist.init_process_group("nccl" if cuda else "gloo")
    return dist.get_rank(), here
