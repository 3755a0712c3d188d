"""The bundled example clip."""
