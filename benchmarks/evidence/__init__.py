"""Do these samplers make models better? One training file, and one file for each question."""
