"""What of the tables needs PyArrow: reading tables of any kind, and writing files with types."""

try:
    import pyarrow  # noqa: F401
except ImportError as error:
    raise ImportError(
        'tables other than .csv and .npy files that are written need PyArrow: pip install "adaptive-sampler[tables]"',
        name="pyarrow",
    ) from error
