"""Entry point of ``tfopt verify``, for launchers: python scripts/verify.py --help."""

from tfopt.cli.main import script

if __name__ == "__main__":
    script("verify")
