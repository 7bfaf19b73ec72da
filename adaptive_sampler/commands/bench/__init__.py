"""What a sampler costs: contestants side by side, case by case. `adaptive-sampler bench` runs it."""
