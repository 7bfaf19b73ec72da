"""Real local clusters of Ray: plans made by its tasks, and trainings by Ray Train."""
