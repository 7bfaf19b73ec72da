"""One epoch over shards: who reads what, in which order, from where it was left."""
