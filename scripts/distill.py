"""Entry point of ``tfopt distill``, for launchers: python scripts/distill.py --help."""

from tfopt.cli.main import script

if __name__ == "__main__":
    script("distill")
