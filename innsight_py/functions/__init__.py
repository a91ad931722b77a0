"""Pure mathematics over tensors: activations, rules, stabilisers. Nothing here knows what a layer is."""
