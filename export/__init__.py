"""From a checkpoint to a model that can be run: graph, parity, repository; over a limit, nothing is written."""
