"""The official LTX-2 layout: all parts but the text encoder in one safetensors file, read as it is published.

    model.diffusion_model.            transformer.py, and the text connectors inside it: connectors.py
    text_embedding_projection.        connectors.py
    vae.                              video_vae.py
    audio_vae.  vocoder.              audio.py
    metadata: config, model_version   file.py, generation.py

The structure is read from the file's own config and keys, so nothing is looked up anywhere. Every key must be used and
every parameter filled (`file.fill`). Weights stay in the file's memory map until they are moved or change their type.
"""

from justdub.backbone.official.file import OfficialFile
from justdub.backbone.official.pipeline import load_pipeline
from justdub.backbone.official.transformer import load_transformer

__all__ = ["OfficialFile", "load_pipeline", "load_transformer"]
