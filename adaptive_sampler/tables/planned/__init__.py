"""Plans of tables put to use: in a store's samplers, in streams without a store, and as lists for other tools."""
