"""The scores while a process holds them: columns that updates fold into, keys, and a journal for ranks."""
