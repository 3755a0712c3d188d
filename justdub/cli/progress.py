"""Progress bars on standard error, one per stage."""

from __future__ import annotations

import sys
from typing import Any

STAGES = {"read": "reading", "encode": "encoding", "denoise": "denoising", "decode": "decoding", "write": "writing"}


class Bars:
    """A progress callback that draws one bar at a time. Silent when asked; plain lines where there is no terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet, self.stage, self.bar = quiet, "", None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self.quiet:
            return
        if stage != self.stage:
            self.close()
            self.stage, self.bar = stage, self._open(stage, total)
        self.bar.update(done - self.bar.n)

    def _open(self, stage: str, total: int) -> Any:
        from tqdm import tqdm

        # Where nobody watches (a pipe, a log file) one finished line per stage is enough.
        seldom = {} if sys.stderr.isatty() else {"mininterval": 1e9, "miniters": 1e12}
        unit = {"denoise": "step", "encode": "stream", "decode": "stream"}.get(stage, "frame")
        return tqdm(total=total, desc=f"{STAGES[stage]:9s}", unit=unit, file=sys.stderr, leave=True, **seldom)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
