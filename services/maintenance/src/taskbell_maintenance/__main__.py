"""`python -m taskbell_maintenance`: runs the maintenance service."""

import sys

from taskbell.signals import end_at_once

if __name__ == "__main__":
    # The imports below take most of a second.
    end_at_once()
    from taskbell.service import main
    from taskbell_maintenance.app import service

    sys.exit(main(service))
