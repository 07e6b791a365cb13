"""Entry point of ``tfopt cluster``, for launchers: python scripts/cluster.py --help."""

from tfopt.cli.main import script

if __name__ == "__main__":
    script("cluster")
