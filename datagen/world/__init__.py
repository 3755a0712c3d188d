"""A drawn world of talking faces that really speak: free, endless, exactly labelled training clips.

Start with `datagen.world.clip.World`.
"""
