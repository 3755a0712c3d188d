"""Where training pairs come from: the drawn world (`datagen.world`) and, for real footage, pair generation."""
