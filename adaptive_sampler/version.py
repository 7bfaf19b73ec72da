"""The version of this package, as its installation tells it."""


def installed() -> str:
    """The version of the installed package; "unknown" where its sources alone are on the path."""
    from importlib.metadata import PackageNotFoundError, version  # late: it takes a tenth of importing this package

    try:
        return version("adaptive-sampler")
    except PackageNotFoundError:
        return "unknown"
