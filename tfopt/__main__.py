"""``python -m tfopt`` is the ``tfopt`` command."""

import sys

from tfopt.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
