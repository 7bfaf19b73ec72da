"""Versions that last: of a store's scores, or of anything else that is written whole and read by many."""
