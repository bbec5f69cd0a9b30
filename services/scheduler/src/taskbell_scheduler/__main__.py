"""`python -m taskbell_scheduler`: runs the scheduler."""

import sys

from taskbell.service import main
from taskbell_scheduler.app import service

if __name__ == "__main__":
    sys.exit(main(service))
