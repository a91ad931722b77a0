"""The door for R: lists of innsight, and files of neuralnet."""
