"""The compose stack, run for real: it needs a Docker engine, so `make test-stack` runs it by itself."""
