"""The door for Keras: from a functional model to a model spec."""
