"""Runs the maintenance service: `python -m taskbell_maintenance`."""

import sys

from taskbell.service import main
from taskbell_maintenance.app import service

if __name__ == "__main__":
    sys.exit(main(service))
