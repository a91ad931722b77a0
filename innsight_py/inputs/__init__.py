"""What users hand in: data, frames, names, and which outputs to explain."""
