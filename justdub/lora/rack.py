"""The adapters that are on a backbone: load, swap, set strengths, take off. The pipeline holds one rack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from justdub.backbone.checkpoint import Backbone
from justdub.errors import BadInputError, UsageError
from justdub.lora import shelf, swap
from justdub.lora.files import AdapterFile, apply, check_base, read, set_strengths
from justdub.lora.merge import read_record
from justdub.lora.reference import Strength
from justdub.sequence import SequenceRules


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter on the backbone.

    Attributes:
        slot: its name inside the transformer, which stays when another adapter is swapped in.
        notice: for the user, when it was trained on another base and that was allowed.
    """

    file: AdapterFile
    strength: Strength
    slot: str
    notice: str = ""


class AdapterRack:
    """Attributes:
    adapters: those that are loaded, by name.
    merged: those that are part of the backbone's weights already (`merge.py`).
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.adapters: dict[str, LoadedAdapter] = {}
        self.merged = read_record(backbone.folder)
        self._slots = 0
        self._swap_rank: int | None = None

    @property
    def _transformer(self) -> Any:
        return self.backbone.transformer.module

    @property
    def rules(self) -> SequenceRules:
        """How sequences are built: as the adapters say (or those that were merged in), else as JUST-DUB-IT does."""
        return next(iter(self._known_rules()), SequenceRules())

    @property
    def sampling(self) -> list[Mapping[str, float]]:
        """How the adapters (and those that were merged in) are best run, in their order."""
        return [one.file.metadata.sampling for one in self.adapters.values()] + [
            one.metadata.sampling for one in self.merged
        ]

    def load(
        self, source: str | Path | AdapterFile, strength: float | Strength = 1.0, *, any_base: bool = False
    ) -> str:
        """Put an adapter beside those that are loaded already.

        Args:
            source: a path, a name of the shelf, or an adapter that has been read.
            strength: of all its modules, or per stream.
            any_base: take it even if it was trained on other weights (of the same shape and generation).

        Returns:
            The name it got (that of the shelf or its file's, numbered when taken).

        Raises:
            BadInputError: it does not fit the backbone, or its rules contradict those of another adapter.
        """
        # Of one length, so that no slot's name is part of another's (see swap.py).
        loaded = self._check(source, strength, f"adapter_{self._slots:06d}", any_base, replaces=None)
        apply(self._transformer, loaded.file, loaded.slot)
        self._slots += 1
        if self._swap_rank is not None:
            swap.prepare(self._transformer, self._swap_rank)
        name = self._free_name(loaded.file, self.adapters)
        self.adapters[name] = loaded
        self._set_strengths()
        return name

    def prepare_swaps(self, rank: int) -> None:
        """Give the adapters that are loaded from now on room for `rank`, so that `swap` takes any up to it and compiled
        code stays valid. Before the first adapter is loaded and before compiling.

        Raises:
            UsageError: an adapter is loaded already.
        """
        if self.adapters:
            raise UsageError("prepare_swaps after an adapter was loaded", remedy="unload_adapters() first")
        if rank < 1:
            raise UsageError(f"prepare_swaps({rank})", expected="the largest rank of the adapters to come")
        self._swap_rank = rank

    def swap(
        self, old: str, new: str | Path | AdapterFile, strength: float | Strength = 1.0, *, any_base: bool = False
    ) -> str:
        """Put `new` in the place of the loaded adapter `old`, in its memory: nothing is reloaded or compiled again.

        Returns:
            The name of the new one.

        Raises:
            UsageError: no such adapter, or a larger rank than there is room for (`prepare_swaps`).
            BadInputError: as for `load`, or it changes modules that `old` does not.
        """
        if old not in self.adapters:
            raise UsageError(f"no adapter {old!r} is loaded", expected=", ".join(self.adapters) or "a loaded adapter")
        loaded = self._check(new, strength, self.adapters[old].slot, any_base, replaces=old)
        swap.swap(self._transformer, loaded.slot, loaded.file)
        name = self._free_name(loaded.file, self.adapters.keys() - {old})
        # In the old one's place: their order is that in which the layers add them up.
        self.adapters = {
            name if key == old else key: loaded if key == old else one for key, one in self.adapters.items()
        }
        self._set_strengths()
        return name

    def unload(self) -> None:
        """Take all adapters off; the backbone is what it was."""
        if self.adapters:
            self._transformer.unload_lora()
            self.adapters.clear()

    def _known_rules(self, *, without: str | None = None) -> list[SequenceRules]:
        said = [one.file.rules for name, one in self.adapters.items() if name != without]
        return [rules for rules in [*said, *(one.rules for one in self.merged)] if rules is not None]

    def _check(
        self, source: Any, strength: float | Strength, slot: str, any_base: bool, *, replaces: str | None
    ) -> LoadedAdapter:
        adapter = source if isinstance(source, AdapterFile) else read(shelf.find(source))
        known = self._known_rules(without=replaces)
        if adapter.rules is not None and any(rules != adapter.rules for rules in known):
            raise BadInputError(
                f"adapter {adapter.path} builds its sequences by other rules than what is loaded",
                expected="adapters that share cross-modal rule, reference mode and positions",
            )
        card, fingerprint = self.backbone.card, self.backbone.fingerprint
        notice = check_base(adapter, fingerprint=fingerprint, base=card.name, any_base=any_base)
        return LoadedAdapter(adapter, Strength.of(strength), slot, notice)

    def _free_name(self, adapter: AdapterFile, taken: Iterable[str]) -> str:
        stem = "".join(c if c.isalnum() else "_" for c in shelf.name_of(adapter.path)) or "adapter"
        name, number = stem, 2
        while name in taken:
            name, number = f"{stem}_{number}", number + 1
        return name

    def _set_strengths(self) -> None:
        set_strengths(self._transformer, {one.slot: one.strength for one in self.adapters.values()})
