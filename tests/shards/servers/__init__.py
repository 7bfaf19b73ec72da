"""Streams read from real servers: nginx as origin and as caching proxy, and one that speaks S3."""
