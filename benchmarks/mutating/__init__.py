"""What `benchmarks/mutations.py` and its test are made of: the mutations, what is read of a mutated folder, and the judge."""
