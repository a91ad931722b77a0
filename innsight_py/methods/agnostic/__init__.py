"""Methods that need nothing but a model's predictions."""
