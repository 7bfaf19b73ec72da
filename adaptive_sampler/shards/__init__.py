"""Tar shards of which only the kept samples are read: their index, and the reader that skips the rest. No framework."""
