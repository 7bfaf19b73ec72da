"""Decide, while a model trains, which samples are worth the next step."""
