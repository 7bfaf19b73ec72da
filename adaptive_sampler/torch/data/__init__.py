"""What a loader is made of: datasets whose samples carry rows, samplers, batches, and the count of what was delivered."""
