"""One sampler and one store on many ranks: the rows dealt out, and what was observed brought together."""
