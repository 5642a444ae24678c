"""Adapter versions, their manifests and cards, and the aliases that say which one is served."""
