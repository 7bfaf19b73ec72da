"""Scores that need gradients: norms, influence and L2RW weights of single samples."""
