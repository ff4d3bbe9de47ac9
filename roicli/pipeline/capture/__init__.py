"""From a model and its inputs to a file of what its RoI nodes read and gave."""
