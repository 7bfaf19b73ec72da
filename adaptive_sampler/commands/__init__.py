"""The commands of `adaptive-sampler`. Nothing in the package but `__main__` imports this folder."""
