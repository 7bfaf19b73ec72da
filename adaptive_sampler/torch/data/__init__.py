"""What a loader is built from: datasets whose samples carry rows, samplers, batches, and the count of what was delivered."""
