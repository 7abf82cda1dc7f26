"""Batch scoring: thousands of scenes on one machine or a Dask cluster, and where to go first."""
