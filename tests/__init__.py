"""Taskbell's tests. A package, so that no dependency's stray top-level `tests` can take its name."""
