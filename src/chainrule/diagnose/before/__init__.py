"""What can be seen before training: the circuit, the data, the weights as they start."""
