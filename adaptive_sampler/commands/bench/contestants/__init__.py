"""A file a family: each function takes `n` rows, sets its contestant up and returns what one turn runs.

What is not always installed is imported inside the functions: a contestant that is missing, or that breaks under what
else is installed, is a line in the table and not an error.
"""
