"""What the package claims of its speed and use, measured: `python -m benchmarks` lists them."""
