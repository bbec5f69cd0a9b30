"""`python -m taskbell_notifier`: runs the notifier."""

import sys

from taskbell.service import main
from taskbell_notifier.app import service

if __name__ == "__main__":
    sys.exit(main(service))
