"""Entry point of ``tfopt quantize``, for launchers: python scripts/quantize.py --help."""

from tfopt.cli.main import script

if __name__ == "__main__":
    script("quantize")
