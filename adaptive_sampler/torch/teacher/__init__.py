"""A teacher that learns which samples of a batch are worth a training step, from what trainings tell it."""
