"""The full examples of the docs: run by torchrun as a user runs them, and on ranks that are killed and started again."""
