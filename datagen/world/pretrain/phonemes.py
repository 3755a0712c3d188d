"""Which phoneme is heard when: labels of short slots of a clip, for losses that teach what is said at which time.

Legend: U slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datagen.world.speech import Phoneme

# espeak-ng's symbols in the five languages, without stress and length. Class 0 is silence, the last one is any other.
_SYMBOLS = """
a t e i s n l m ə o k d ɪ ɾ ɛ ð j f u p z ɑ b ʌ ʁ v r aɪ ʃ y ɹ ɡ w ʒ ɑ̃ ɔ ɭ ç tʃʲ β ja dʲ x ɭʲ ŋ tʲ
ɜ eɪ ø sʲ h ts ɒ tʃ nʲ θ ɔ̃ oɪ əʊ ɵ ʊ ɛ̃ aʊ ɐ ɣ rʲ ɔø iə œ ʎ bʲ pʲ ɲ ɕ vʲ ʑ ju ɪ^ əl u" mʲ ɔɪ ʊə
aɪə dʒ kʲ ʏ œ̃ ɡʲ eə ʝ fʲ
"""
INVENTORY = tuple(_SYMBOLS.split())
CLASSES = len(INVENTORY) + 2
_CLASS = {symbol: number for number, symbol in enumerate(INVENTORY, 1)}
_MARKS = str.maketrans("", "", "ˈˌː-")


def label(phonemes: Sequence[Phoneme], times_U: np.ndarray) -> np.ndarray:
    """The class that is heard at each instant, uint8 (U,); times in seconds."""
    classes_U = np.zeros(len(times_U), np.uint8)
    for phoneme in phonemes:
        heard_U = (times_U >= phoneme.start) & (times_U < phoneme.end)
        classes_U[heard_U] = _CLASS.get(phoneme.ipa.translate(_MARKS), CLASSES - 1)
    return classes_U
