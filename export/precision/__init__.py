"""From a graph in float32 to its FP16 and INT8 graphs, each judged by the decisions that it changes."""
