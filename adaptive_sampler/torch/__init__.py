"""Drop-in samplers, loss hooks and gradient scores for PyTorch."""
