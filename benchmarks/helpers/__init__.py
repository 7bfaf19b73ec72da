"""What several benchmarks, and the tests, need: a web server that counts, and a writer that can be killed."""
