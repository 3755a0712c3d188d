"""Whether there is a dub at all: it opens, shows something and is heard.

Legend: F frames, H/W height/width, 3 RGB.
"""

from __future__ import annotations

import numpy as np

from justdub.errors import BadInputError, JustDubError
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.pictures import BLACK, grey
from justdub.evaluation.sample import Clip, Sample


def spread(clip: Clip) -> float:
    """The largest deviation of luma within a frame, grey levels, over 16 frames spread over the clip."""

    def make() -> dict[str, np.ndarray]:
        most = 0.0
        for chunk_FHW3 in clip.frames():
            most = max(most, float(grey(chunk_FHW3[::4]).std((1, 2)).max()))
        return {"spread": np.float64(most)}

    return float(clip.picture_feature("spread", make, clip.longest)["spread"])


def fault_of(sample: Sample) -> str:
    """Why this is no dub, in one line; "" if it is one."""
    try:
        dub = sample.dub
        dub.sound()
        if spread(dub) < BLACK:
            return f"{dub.path.name}: its picture is black, or of one colour, from beginning to end"
        if abs(dub.info.duration - sample.source.info.duration) > max(1, sample.source.info.duration / 2):
            lengths = f"{float(dub.info.duration):.2f} s, the source {float(sample.source.info.duration):.2f} s"
            return f"{dub.path.name}: lasts {lengths}"
    except BadInputError as error:
        return error.found
    except JustDubError as error:
        return str(error)
    return ""


METRICS = (
    Metric(
        "success", "Success", "%", Better.HIGHER, "",
        "Share of clips with a dub that opens, shows more than one colour, is not silent (above -80 dB) and lasts "
        "neither half as long again nor half as short. Published as Succ without a definition; this one is ours.",
        lambda sample: 0.0 if fault_of(sample) else 100.0,
    ),
)  # fmt: skip
