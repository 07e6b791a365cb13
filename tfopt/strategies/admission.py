"""``python -m tfopt.strategies.admission``, now ``tfopt.distributed.launch.host_discovery``."""

from tfopt.distributed.launch.host_discovery import main

if __name__ == "__main__":
    main()
