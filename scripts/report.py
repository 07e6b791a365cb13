"""Entry point of ``tfopt report``, for launchers: python scripts/report.py --help."""

from tfopt.cli.main import script

if __name__ == "__main__":
    script("report")
