"""All metrics, in the order of tables."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from justdub.errors import UsageError
from justdub.evaluation.metric import Metric, SetMetric

# Files of justdub/evaluation/metrics, in the order of the tables.
FILES = (
    "success", "duration", "offset", "streams",
    "psnr", "ssim", "vmaf", "flicker", "fid", "fvd", "frechet", "identity",
    "mouth", "lips", "syncnet",
    "loudness", "si_sdr", "intensity", "overlap", "voice_activity", "speaker", "words", "english", "emotion", "dnsmos",
    "mcd",
)  # fmt: skip


@lru_cache(maxsize=1)
def every() -> tuple[Metric | SetMetric, ...]:
    """The whole suite."""
    modules = [import_module(f"justdub.evaluation.metrics.{name}") for name in FILES]
    return tuple(metric for module in modules for metric in module.METRICS)


def chosen(keys: tuple[str, ...]) -> tuple[Metric | SetMetric, ...]:
    """Those with these keys, () for all; raises UsageError for a key that nobody has."""
    known = {metric.key: metric for metric in every()}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise UsageError(f"no metric {unknown[0]}", expected=f"some of {', '.join(known)}")
    return tuple(metric for key, metric in known.items() if not keys or key in keys)
