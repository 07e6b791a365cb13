"""Entry point of ``tfopt export``, for launchers: python scripts/export.py --help."""

from tfopt.cli.main import script

if __name__ == "__main__":
    script("export")
