"""How fast the world is: milliseconds per clip by stage, on one thread or on a device."""

from __future__ import annotations

import time

import numpy as np
import torch

from datagen.world.clip import World
from datagen.world.render import render


def measure(world: World, count: int = 64, device: str = "cpu", threads: int = 1) -> dict[str, float]:
    """Milliseconds per clip for planning, speaking (with all truth) and drawing, and clips/s in all.

    Timed on `count` clips after a warm-up of 8; drawing on an accelerator includes the copy of the frames to the host.
    """
    torch.set_num_threads(threads)
    world.batch(range(8), device=device)

    def timed(work):
        start = time.perf_counter()
        result = work()
        return result, 1000 * (time.perf_counter() - start) / count

    specs, planning = timed(lambda: [world.plan(index) for index in range(100, 100 + count)])
    takes, speaking = timed(lambda: [world.perform(spec) for spec in sorted(specs, key=lambda spec: spec.language)])
    drawings = [take.drawing for take in takes]
    frames, drawing = timed(lambda: render(drawings, size=world.size, device=device).frames.cpu())
    total = planning + speaking + drawing
    return {
        "plan_ms": planning, "speak_ms": speaking, "draw_ms": drawing, "total_ms": total, "clips_per_s": 1000 / total,
        "seconds_of_speech": float(np.mean([t.phonemes[-1].end - t.phonemes[0].start for t in takes])),
        "frames": frames.shape[1], "size": frames.shape[2],
    }  # fmt: skip
