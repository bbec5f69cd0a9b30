"""`taskbell run all`, as a module: how the development stack starts a service."""

from taskbell.cli import main

if __name__ == "__main__":
    main(["run", "all"])
