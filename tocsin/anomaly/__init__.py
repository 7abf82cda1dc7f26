"""Anomaly per volcano: what is normal is learnt from the quiet epochs of one series, what is not is measured (PaDiM).

numpy only: preparation, embeddings, Gaussians and thresholds here are the reference that the fitted graph must equal;
the graph itself is built by `export.anomaly`.
"""
