"""Do these samplers make models better? `training.py` trains, and each question has a file of its own."""
