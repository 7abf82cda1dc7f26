"""The gate of the service: who may ask, what is let in, and what it would cost, before any work is accepted."""
