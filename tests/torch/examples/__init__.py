"""The full examples of the docs, run as a user runs them: on ranks, killed, and started again."""
