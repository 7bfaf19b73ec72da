"""Tables in, tables out: scores as Parquet, Arrow, Feather and CSV, for tools that know nothing of a store."""
