"""That a training goes on exactly wherever it is stopped."""
