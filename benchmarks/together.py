"""`taskbell run all` as a module, because the development stack starts services as modules."""

from taskbell.cli import main

if __name__ == "__main__":
    main(["run", "all"])
