"""The model spec: the one dict format between the doors and the graph, and its check.

A spec is what a converter writes and what a user may write by hand::

    {"input_dim": [4],                       # channels first, without the batch; a list of such for several inputs
     "layers": [{"type": "Dense", "weight": W, "bias": b, "activation_name": "relu"},      # W: (out, in)
                {"type": "Dense", "weight": V, "bias": c, "name": "species"}],
     "outputs": ["species"]}                 # default: the last layer

A layer takes the layer before it unless its ``"inputs"`` names others; the model's inputs are ``"input_1"``,
``"input_2"``, ... Everything that may be wrong with a spec is refused here, with the layer, the key, what was
found and what was expected.
"""

from innsight_py.spec.model import ModelSpec, SpecError, check_spec, parse_dims, spec_as_dict

__all__ = ["ModelSpec", "SpecError", "check_spec", "parse_dims", "spec_as_dict"]
