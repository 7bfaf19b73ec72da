"""Numba kernels: arrays in, arrays out. No kernel calls one of another file (Numba's cache would miss a change)."""
