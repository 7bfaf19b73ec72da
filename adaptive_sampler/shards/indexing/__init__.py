"""Which row is which sample, and where its bytes are: the pass over the headers, and the index that it writes."""
