"""Training of the small checkpoint that speaks the drawn world's language: `python -m datagen.world.pretrain`."""
