"""Speaker identities: number -> a voice file for espeak-ng, a pitch and a pace.

Formant scale and pitch ranges follow the usual adult male / adult female / child proportions (vocal tract lengths of
about 17, 14.5 and 12.5 cm; Peterson & Barney 1952), the spread within a kind is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from datagen.world.splits import Kind, kind_of

_STREAM = 0x701CE  # keeps this random stream apart from the other ones
_PITCH = {("man", "young"): (100, 140), ("man", "adult"): (80, 125), ("man", "elder"): (92, 138)}
_PITCH |= {("woman", "young"): (190, 250), ("woman", "adult"): (165, 225), ("woman", "elder"): (150, 205)}
_FORMANT = {"man": (0.92, 1.05), "woman": (1.09, 1.2)}
_PACE = {"child": (165, 190), "young": (172, 200), "adult": (162, 192), "elder": (150, 172)}


@dataclass(frozen=True)
class Voice:
    """One speaker.

    Attributes:
        kind: gender and age.
        pitch: lower end of the voice's own pitch span, Hz; formant: scale of all resonances (1 = the engine's own man).
        rate: own pace, words/min. tremor: 0..1, the unsteadiness of an old voice.
    """

    number: int
    kind: Kind
    pitch: float
    span: float
    formant: float
    rate: int
    tremor: float
    tone: tuple[int, int, int, int]
    breath: int

    def lines(self, whisper: float = 0.0) -> str:
        """The espeak-ng voice file; `whisper` 0 = voiced .. 1 = no voice at all."""
        scale = 100 * self.formant
        first = f"{scale * 0.99:.0f} {100 - 100 * min(1.0, whisper * 1.2):.0f} 130"
        voicing = 100 - 83 * whisper
        breath = (75, 75, 50, 40, 15, 10)
        own = (0, self.breath, self.breath, self.breath, self.breath, 0)
        noise = [max(round(amount * whisper), mine) for amount, mine in zip(breath, own, strict=True)]
        lines = [
            f"gender {'female' if self.kind.gender == 'woman' else 'male'}",
            f"pitch {self.pitch:.0f} {self.pitch * self.span:.0f}",
            "flutter 0",
            "roughness 0",
            f"formant 0 {first}",
            f"formant 1 {scale:.0f} {100 - 20 * whisper:.0f} 110",
            *(f"formant {i} {scale:.0f} {92 - 3 * i} {100 + 5 * i}" for i in range(2, 6)),
            *(f"formant {i} {min(scale, 112):.0f} 60 110" for i in range(6, 9)),
            "tone 600 {} 1200 {} 2000 {} 3000 {}".format(*self.tone),
            f"voicing {voicing:.0f}",
        ]
        if any(noise):
            lines += [f"breath {max(1, noise[0])} " + " ".join(map(str, noise[1:])), "breathw 150 150 200 200 400 400"]
        return "\n".join(lines) + "\n"


@lru_cache(maxsize=4096)
def voice(number: int) -> Voice:
    """The speaker with that number: always the same one."""
    kind = kind_of(number)
    rng = np.random.default_rng([_STREAM, number])
    span = rng.uniform(1.32, 1.55)
    if kind.age == "child":
        pitch, formant = rng.uniform(250, 320), rng.uniform(1.24, 1.36)
    else:
        pitch, formant = rng.uniform(*_PITCH[kind.gender, kind.age]), rng.uniform(*_FORMANT[kind.gender])
    rate = int(rng.uniform(*_PACE[kind.age]))
    tone = tuple(int(x) for x in rng.integers((120, 70, 70, 60), (200, 170, 160, 150)))
    tremor = rng.uniform(0.5, 1.0) if kind.age == "elder" else 0.0
    breath = int(rng.integers(3, 8)) if rng.uniform() < 0.3 or kind.age == "elder" else 0
    return Voice(number, kind, float(pitch), float(span), float(formant), rate, float(tremor), tone, breath)
