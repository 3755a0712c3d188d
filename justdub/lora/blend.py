"""Several adapters in one file: the weighted sum of their changes, exact or compressed to a rank."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from justdub.errors import BadInputError, UsageError
from justdub.lora.config import group
from justdub.lora.factors import Factors, compress, concatenate, norm
from justdub.lora.files import AdapterFile
from justdub.lora.metadata import PREFIX, AdapterMetadata
from justdub.lora.reference import Strength
from justdub.lora.shelf import file_digest, name_of

SOURCES_KEY = f"{PREFIX}blend"


@dataclass(frozen=True)
class Blend:
    """A blended adapter, not yet written.

    Attributes:
        header: what it was made of, for the file's header.
        error: Frobenius norm of what compression lost, relative to the whole change (0 without compression).
    """

    modules: dict[str, Factors]
    metadata: AdapterMetadata
    header: dict[str, str]
    error: float


def blend(parts: Sequence[tuple[AdapterFile, Strength]], rank: int | None = None, *, any_base: bool = False) -> Blend:
    """The sum of ``strength * B A`` over the adapters, for every module that any of them changes.

    Args:
        rank: of the result; None concatenates the factors, so that ranks add up and nothing is lost.
        any_base: also blend adapters that were trained on different weights.

    Raises:
        BadInputError: their rules, generations, bases or widths differ.
    """
    if rank is not None and rank < 1:
        raise UsageError(f"--rank {rank}", expected="1 or more")
    metadata = _metadata([adapter for adapter, _ in parts], any_base)
    modules, lost, whole = {}, 0.0, 0.0
    for name in sorted({name for adapter, _ in parts for name in adapter.modules}):
        own = [
            (adapter.modules[name], strength.at(group(name))) for adapter, strength in parts if name in adapter.modules
        ]
        if len({factors.widths for factors, _ in own}) > 1:
            raise BadInputError(f"{name} has different widths in the adapters", expected="adapters for one backbone")
        total = concatenate(own)
        modules[name], error = (total, 0.0) if rank is None else compress(total, rank)
        lost, whole = math.hypot(lost, error), math.hypot(whole, norm(total))
    largest = max(factors.rank for factors in modules.values())
    sources = [
        {"name": name_of(adapter.path), "strength": str(strength), "sha256": file_digest(adapter.path)}
        for adapter, strength in parts
    ]
    return Blend(
        modules,
        replace(metadata, rank=largest, alpha=float(largest)),
        {SOURCES_KEY: json.dumps(sources)},
        lost / whole if whole else 0.0,
    )


def _metadata(adapters: Sequence[AdapterFile], any_base: bool) -> AdapterMetadata:
    """What all of them say; what they do not share (steps, recipe, prompt) is left empty."""
    said = [adapter.metadata for adapter in adapters]
    rules = list(dict.fromkeys(one.rules for one in said if one.rules is not None))
    if len(rules) > 1:
        raise BadInputError(
            "the adapters build their sequences by different rules",
            expected="adapters that share cross-modal rule, reference mode and positions",
        )
    if len(generations := {one.generation for one in said if one.generation}) > 1:
        raise BadInputError(f"the adapters are of generations {' and '.join(sorted(generations))}", expected="one")
    prints = {one.fingerprint for one in said if one.fingerprint}
    if len(prints) > 1 and not any_base:
        raise BadInputError(
            f"the adapters were trained on different backbones ({', '.join(sorted(prints))})", remedy="--any-base"
        )

    def shared(name: str, empty: object) -> object:
        values = [getattr(one, name) for one in said]
        return values[0] if all(value == values[0] for value in values) else empty

    return AdapterMetadata(
        rules=rules[0] if rules else None,
        languages=tuple(dict.fromkeys(code for one in said for code in one.languages)),
        base=shared("base", ""),
        generation=next(iter(generations), ""),
        fingerprint=shared("fingerprint", ""),
        targets=tuple(dict.fromkeys(target for one in said for target in one.targets)),
        prompt=shared("prompt", ""),
        condition_dropout=shared("condition_dropout", {}),
        sampling=shared("sampling", {}),
        licence="; ".join(dict.fromkeys(one.licence for one in said if one.licence)),
    )
