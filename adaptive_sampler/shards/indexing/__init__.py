"""The index of shards, and how tar headers are read to make it: which row is which sample, and where its bytes are."""
