"""Entry point of ``tfopt plan``, for launchers: python scripts/plan.py --help."""

from tfopt.cli.main import script

if __name__ == "__main__":
    script("plan")
