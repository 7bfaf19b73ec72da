"""The scores in a process's memory: the columns that updates are folded into, the keys, and the journal of a rank."""
