"""Fitted anomaly graphs: an encoder cut out of the volcano model, preparation before it and distances behind it."""
