"""Connects to web servers and object stores: one client for everything that is not on a local disk."""
