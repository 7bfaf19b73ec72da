"""Measures what samplers cost: in each case several contestants do the same work. `adaptive-sampler bench` runs it."""
