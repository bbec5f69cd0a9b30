"""The connection: frames, properties, and what ends it."""
