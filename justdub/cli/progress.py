"""Progress on standard error: a bar per stage on a terminal, a finished line per stage elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

STAGES = {
    "read": ("reading", "frame"),
    "encode": ("encoding", "stream"),
    "denoise": ("denoising", "step"),
    "decode": ("decoding", "stream"),
    "write": ("writing", "frame"),
    "draw": ("drawing", "clip"),
    "generate": ("generating", "clip"),
    "precompute": ("encoding", "pair"),
    "probe": ("looking", "pair"),
    "judge": ("judging", "clip"),
    "report": ("drawing", "clip"),
}


class Bars:
    """A progress callback (stage, done, total). Silent when asked."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet, self.stage, self.bar, self.done, self.begin = quiet, "", None, 0, 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self.quiet:
            return
        if stage != self.stage:
            self.close()
            self.stage, self.begin = stage, time.perf_counter()
            self.bar = self._open(stage, total) if sys.stderr.isatty() else None
        self.done = done
        if self.bar is not None:
            self.bar.update(done - self.bar.n)

    @staticmethod
    def _open(stage: str, total: int) -> Any:
        from tqdm import tqdm

        name, unit = STAGES.get(stage, (stage, "clip"))
        return tqdm(total=total, desc=f"{name:9s}", unit=unit, file=sys.stderr)

    def close(self) -> None:
        """End the stage that is running."""
        if self.bar is not None:
            self.bar.close()
        elif self.stage:
            name, unit = STAGES.get(self.stage, (self.stage, "clip"))
            seconds = time.perf_counter() - self.begin
            print(f"justdub: {name} {self.done} {unit}s took {seconds:.1f} s", file=sys.stderr)
        self.stage, self.bar = "", None
