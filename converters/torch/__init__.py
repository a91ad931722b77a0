"""The door for PyTorch: from a traced program to a model spec."""
