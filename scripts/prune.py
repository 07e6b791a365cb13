"""Entry point of ``tfopt prune``, for launchers: python scripts/prune.py --help."""

from tfopt.cli.main import script

if __name__ == "__main__":
    script("prune")
