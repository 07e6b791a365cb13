"""Entry point of ``tfopt bench``, for launchers: python scripts/bench.py --help."""

from tfopt.cli.main import script

if __name__ == "__main__":
    script("bench")
