"""What a training step keeps for its backward pass, beside the estimate of `--dry-run`.

    python benchmarks/training_memory.py [--batch 4] [--rank 32]

Counts the bytes of every tensor that autograd saves in one forward pass (each storage once; weights apart) on the
bundled backbone, with and without gradient checkpointing, and per token and width of its stream and block.
"""

from __future__ import annotations

import argparse

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from justdub.backbone import checkpoint
from justdub.lora import inject
from justdub.lora.config import LoraSettings
from justdub.sequence import SequenceRules, plan_sequence
from justdub.training.plan import activation_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=32)
    arguments = parser.parse_args()
    whole_block = 0
    for checkpointing in (False, True):
        backbone = checkpoint.load()
        joint, batch = backbone.transformer, arguments.batch
        inject.inject(joint.module, LoraSettings(rank=arguments.rank), "measured")
        if checkpointing:
            joint.enable_gradient_checkpointing()
        joint.module.train()
        video, audio = torch.randn(batch, 32, 13, 6, 6), torch.randn(batch, 4, 50, 16)
        plan = plan_sequence(
            video_target_BCFHW=video, audio_target_BCTM=audio, video_reference_BCFHW=video,
            audio_reference_BCTM=audio, frame_rate=25, geometry=joint.geometry,
            rules=SequenceRules(reference="isolated"),
        )  # fmt: skip
        sequence = plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, torch.ones(batch), torch.ones(batch))
        weights = {p.untyped_storage().data_ptr() for p in joint.module.parameters()}
        saved: dict[int, int] = {}

        def keep(tensor: torch.Tensor, weights=weights, saved=saved) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            found = joint.velocity(sequence, backbone.text.encode("The woman is speaking French."))
        layout = plan.layout
        expected = activation_bytes(
            joint.module.config, layout.video.target, layout.audio.target, batch, 4, checkpointing
        )
        total = sum(saved.values()) + whole_block  # with checkpointing, one block at a time is kept whole
        whole_block = total // len(joint.module.transformer_blocks)
        print(
            f"checkpointing {checkpointing!s:5}  kept {total / 2**20:7.1f} MiB  estimate {expected / 2**20:7.1f} MiB"
            f"  ratio {expected / total:.2f}"
        )
        del found


if __name__ == "__main__":
    main()
