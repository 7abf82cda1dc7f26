"""Lightning modules: what a step is, what is watched, what is optimised."""
