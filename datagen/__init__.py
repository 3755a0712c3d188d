"""Training pairs: clips that differ in nothing but the language, the voice's words and the lips that say them.

`python -m datagen run CONFIG` makes them with the backbone itself (JUST-DUB-IT, section "Data"): a clip in which a
speaker switches the language, split at the switch, and each half said again in the other half's language.
`datagen.world` draws true ones.
"""
