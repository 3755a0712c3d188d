"""How far the dub's length is from the source's."""

from __future__ import annotations

from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.sample import Sample


def duration_error(sample: Sample) -> float:
    """Percent of the source's length, of the pictures' exact durations."""
    source, dub = sample.source.info.duration, sample.dub.info.duration
    return float(100 * abs(dub - source) / source)


METRICS = (
    Metric("duration_error", "Dur-Err", "%", Better.LOWER, "",
           "|length of dub - length of source| / length of source, of the pictures. Published without a definition.",
           duration_error),
)  # fmt: skip
