"""Pictures of results. `frame` says what is in a picture, `build` computes it, the backends draw it."""
