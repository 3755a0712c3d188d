"""Seconds for a clip of 2 s from a prompt, with the bundled backbone: python benchmarks/generate.py [--repeats N]"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from justdub import DubPipeline

PROMPT = 'The woman is speaking French, saying: "Le soldat attend dans le parc."'

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    pipe = DubPipeline.from_pretrained(device="cpu")
    seconds = []
    for seed in range(options.repeats + 1):
        start = time.perf_counter()
        pipe.generate(PROMPT, frames=49, steps=options.steps, seed=seed)
        seconds.append(time.perf_counter() - start)
    kept = seconds[1:]  # the first one warms up
    print(
        f"{options.steps} steps with guidance, 49 frames, {torch.get_num_threads()} threads: median "
        f"{statistics.median(kept):.2f} s, {min(kept):.2f} to {max(kept):.2f}"
    )
