"""VMAF of the dubbed picture against the source's, by the libvmaf that ffmpeg carries with its model.

Netflix, vmaf_v0.6.1: 0..100, 100 for what nobody can tell from the source.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np

from justdub.errors import BadInputError, MissingError
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.sample import Sample
from justdub.media.container import FORMATS, media_url
from justdub.media.ffmpeg import ffmpeg_exe

_SCORE = re.compile(r"VMAF score: ([0-9.]+)")
_SAFELY = ["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS]


def vmaf(source: Path, dub: Path, *, size: tuple[int, int], rate: object) -> float:
    """Mean score of all frames, compared one by one at `size` (width, height) and `rate` frames per second.

    Raises:
        MissingError: this ffmpeg was built without libvmaf. BadInputError: ffmpeg failed.
    """
    even = f"fps={rate},scale={size[0]}:{size[1]}:flags=bicubic,setpts=PTS-STARTPTS"
    graph = f"[0:v:0]{even}[dub];[1:v:0]{even}[source];[dub][source]libvmaf=n_threads=1:shortest=1"
    inputs = [word for path in (dub, source) for word in (*_SAFELY, "-i", media_url(path))]
    argv = [ffmpeg_exe(), "-hide_banner", "-nostdin", "-v", "info", *inputs, "-lavfi", graph, "-f", "null", "-"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    said = done.stderr.decode("utf-8", "replace")
    found = _SCORE.search(said)
    if found:
        return float(found[1])
    if "No such filter" in said:
        raise MissingError(
            "this ffmpeg has no libvmaf", remedy="pip install imageio-ffmpeg, and unset IMAGEIO_FFMPEG_EXE"
        )
    last = (said.strip().splitlines() or ["no message"])[-1]
    raise BadInputError(f"ffmpeg gave no VMAF (code {done.returncode}): {last}")


def _of(sample: Sample) -> float:
    source, dub = sample.source, sample.dub
    if source.info.video.frame_rate != dub.info.video.frame_rate:
        raise BadInputError("frame rates differ")

    def make() -> dict[str, np.ndarray]:
        score = vmaf(source.info.path, dub.info.path, size=source.size, rate=source.info.video.frame_rate)
        return {"vmaf": np.float64(score)}

    return float(sample.pair_feature("vmaf", make, source.size)["vmaf"])


METRICS = (
    Metric("vmaf", "VMAF", "", Better.HIGHER, "ffmpeg with libvmaf (imageio-ffmpeg has it)",
           "Netflix vmaf_v0.6.1, mean over frames of the whole picture; the dubbed mouth counts as a loss.", _of),
)  # fmt: skip
