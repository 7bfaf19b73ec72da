"""Numba kernels: arrays in, arrays out.

A kernel may call kernels of any file of this folder, and use their constants: a change in any of these files has all
kernels compiled anew. Nothing else of the package may be part of a kernel, as a change there would go unnoticed.
"""
