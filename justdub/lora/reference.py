"""How a user names an adapter: ``NAME_OR_PATH[:STRENGTH]``, e.g. ``fr:0.8`` or ``fr:video=1,audio=0.5,cross=0.7``.

Light: the command line reads it before torch is loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from justdub.errors import UsageError

LIMIT = 10.0  # a strength beyond this is a slip of the finger


@dataclass(frozen=True)
class Strength:
    """By how much an adapter's change is multiplied, for the modules of each stream."""

    video: float = 1.0
    audio: float = 1.0
    cross: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value) or abs(value) > LIMIT:
                raise UsageError(
                    f"adapter strength {field.name}={value:g}", expected=f"a number from -{LIMIT:g} to {LIMIT:g}"
                )

    @classmethod
    def of(cls, value: float | Strength) -> Strength:
        """One number for all streams, or a `Strength` as it is."""
        return value if isinstance(value, Strength) else cls(value, value, value)

    @property
    def uniform(self) -> bool:
        return self.video == self.audio == self.cross

    def at(self, group: str) -> float:
        """Of one group of modules: `video`, `audio` or `cross` (`config.group`)."""
        return getattr(self, group)

    def __str__(self) -> str:
        if self.uniform:
            return f"{self.video:g}"
        return f"video={self.video:g},audio={self.audio:g},cross={self.cross:g}"


@dataclass(frozen=True)
class Reference:
    """What follows ``--adapter``: a name of the shelf or a path, and a strength."""

    name: str
    strength: Strength


def parse_reference(text: str) -> Reference:
    """``NAME_OR_PATH[:STRENGTH]`` as the command line takes it; streams that are not listed have strength 1.

    A colon belongs to the path unless a strength follows it.

    Raises:
        UsageError: a strength beyond the limits, or a stream that does not exist.
    """
    head, colon, tail = text.rpartition(":")
    if colon and head:
        try:
            return Reference(head, Strength.of(float(tail)))
        except ValueError:
            pass
        if "=" in tail and not any(mark in tail for mark in "/\\"):
            return Reference(head, _per_stream(tail))
    return Reference(text, Strength())


def _per_stream(text: str) -> Strength:
    values: dict[str, float] = {}
    known = [field.name for field in fields(Strength)]
    for part in text.split(","):
        name, _, number = part.partition("=")
        name = name.strip()
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if name not in known or name in values or math.isnan(value):
            raise UsageError(
                f"adapter strength {part!r}",
                expected=f"each of {', '.join(known)} once, with a number",
                remedy="fr:video=1,audio=0.5,cross=0.7",
            )
        values[name] = value
    return Strength(**values)
