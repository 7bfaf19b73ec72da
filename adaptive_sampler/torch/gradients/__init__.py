"""Scores that need gradients: the gradient norms, influence and L2RW weights of single samples."""
