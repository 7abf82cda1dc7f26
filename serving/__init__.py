"""What runs as a service: HTTP, Triton and batch; it meets the training side in files only."""
