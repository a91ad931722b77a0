"""The converted model: the graph of layers, and that it equals the original."""
