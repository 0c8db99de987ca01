"""Training of both stages: the loop, the losses, the data of each stage, metrics and resumption."""
