"""Durable versions, of a store's scores or of anything else that one process writes whole and many may read."""
