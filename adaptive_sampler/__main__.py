"""The command `adaptive-sampler`, also as `python -m adaptive_sampler`."""

import sys


def main() -> None:
    """Run the command; a missing extra ends it with one line that says what to install."""
    try:
        from adaptive_sampler.commands.app import app
    except ImportError as error:
        sys.exit(str(error))
    app(prog_name="adaptive-sampler")


if __name__ == "__main__":
    main()
