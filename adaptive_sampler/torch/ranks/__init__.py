"""One sampler and one store on many ranks: each rank gets a share of the rows, and all ranks share what they observed."""
