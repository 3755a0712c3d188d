"""All metrics, in the order of tables."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from justdub.errors import UsageError
from justdub.evaluation.metric import Metric, SetMetric

# Files of justdub/evaluation/metrics by what they judge, in the order of the tables.
FAMILIES = {
    "The clip": ("success", "duration", "offset", "streams"),
    "Picture": ("psnr", "ssim", "vmaf", "flicker", "fid", "fvd", "frechet", "identity"),
    "Lips": ("mouth", "lips", "syncnet"),
    "Sound": ("loudness", "si_sdr", "intensity", "overlap", "voice_activity"),
    "Voice and words": ("speaker", "words", "english", "emotion", "dnsmos", "mcd"),
}


@lru_cache(maxsize=1)
def every() -> tuple[Metric | SetMetric, ...]:
    """The whole suite."""
    return tuple(metric for found in families().values() for metric in found)


@lru_cache(maxsize=1)
def families() -> dict[str, tuple[Metric | SetMetric, ...]]:
    """The whole suite by what is judged."""
    return {
        family: tuple(
            metric for name in names for metric in import_module(f"justdub.evaluation.metrics.{name}").METRICS
        )
        for family, names in FAMILIES.items()
    }


def chosen(keys: tuple[str, ...]) -> tuple[Metric | SetMetric, ...]:
    """Those with these keys, () for all; raises UsageError for a key that nobody has."""
    known = {metric.key: metric for metric in every()}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise UsageError(f"no metric {unknown[0]}", expected=f"some of {', '.join(known)}")
    return tuple(metric for key, metric in known.items() if not keys or key in keys)
