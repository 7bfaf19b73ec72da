"""Plans over tables of any size: the rows that a policy keeps, found by passes over the partitions of a table."""
