"""Whether the dub keeps what a player relies on: rate, size, frames, sound."""

from __future__ import annotations

from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.sample import Sample


def differences(sample: Sample) -> tuple[str, ...]:
    """In words, what of the dub's streams is not as in the source; () if all is."""
    source, dub = sample.source.info, sample.dub.info
    found = []
    if source.video.frame_rate != dub.video.frame_rate:
        found.append(f"frame rate {dub.video.frame_rate} instead of {source.video.frame_rate}")
    if (source.video.width, source.video.height) != (dub.video.width, dub.video.height):
        found.append(f"size {dub.video.width}x{dub.video.height} instead of {source.video.width}x{source.video.height}")
    if source.video.frames != dub.video.frames:
        found.append(f"{dub.video.frames} frames instead of {source.video.frames}")
    if dub.audio is None:
        found.append("no sound")
    if len(dub.subtitles) < len(source.subtitles):
        found.append(f"{len(dub.subtitles)} subtitle tracks instead of {len(source.subtitles)}")
    return tuple(found)


METRICS = (
    Metric("streams_kept", "Streams kept", "%", Better.HIGHER, "",
           "Share of dubs with the source's frame rate, size, number of frames and subtitle tracks, and with sound.",
           lambda sample: 0.0 if differences(sample) else 100.0),
)  # fmt: skip
