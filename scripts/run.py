"""Entry point of ``tfopt run``, for launchers: python scripts/run.py --help."""

from tfopt.cli.main import script

if __name__ == "__main__":
    script("run")
