"""Measures what the package claims about its speed and its use: `python -m benchmarks` lists the benchmarks."""
