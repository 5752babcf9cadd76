"""The pure part of the model registry: which version number a change deserves."""
