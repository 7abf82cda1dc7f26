"""Backends that `tocsin triton` brings to its server."""
