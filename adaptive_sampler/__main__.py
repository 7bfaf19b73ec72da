"""The command line `adaptive-sampler`, which `python -m adaptive_sampler` runs too."""

import sys


def main() -> None:
    """Run the command. If an extra is missing, exit with one line that says what to install."""
    try:
        from adaptive_sampler.commands.app import app
    except ImportError as error:
        sys.exit(str(error))
    app(prog_name="adaptive-sampler")


if __name__ == "__main__":
    main()
