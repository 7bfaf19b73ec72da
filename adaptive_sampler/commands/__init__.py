"""What `adaptive-sampler` does on a command line. Nothing else of the package imports it."""
