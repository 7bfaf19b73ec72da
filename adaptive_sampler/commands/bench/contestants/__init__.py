"""The contestants, one file per family. Each function takes `n` rows, sets its contestant up, and returns a turn.

Packages that may be missing are imported inside the functions. So a contestant that is missing, or does not work with
the other installed packages, becomes a line in the table and not an error.
"""
