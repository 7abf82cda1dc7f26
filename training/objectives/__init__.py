"""Losses, each a pure function of logits and labels."""
