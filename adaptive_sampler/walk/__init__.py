"""The walk of a sampler: which plan an epoch has, in which order its rows come, and how a walk is resumed."""
