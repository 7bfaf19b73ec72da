"""Reads one epoch from shards: which reader reads which samples, in which order, and where it resumes."""
