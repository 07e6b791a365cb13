"""Entry point of ``tfopt train``, for launchers: python scripts/train.py --help."""

from tfopt.cli.main import script

if __name__ == "__main__":
    script("train")
