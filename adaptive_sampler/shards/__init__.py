"""Placeholder while the folder fills."""
