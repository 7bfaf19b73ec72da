"""How an open store writes versions: in the call, or behind it."""
