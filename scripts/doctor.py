"""Entry point of ``tfopt doctor``, for launchers: python scripts/doctor.py --help."""

from tfopt.cli.main import script

if __name__ == "__main__":
    script("doctor")
