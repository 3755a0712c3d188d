"""A drawn world of talking faces that really speak: free, endless, exactly labelled training clips.

Start with `World`; `python -m datagen.world --help` shows it.
"""

from __future__ import annotations

from datagen.world.clip import Take, World, WorldBatch, WorldClip

__all__ = ["Take", "World", "WorldBatch", "WorldClip"]
