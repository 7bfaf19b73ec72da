"""Where a shard's bytes come from: a local file, byte ranges over a network, or a stream that only goes forward."""
