"""What captum, shap, lime, zennit and others call arguments, and what these are called here."""

from __future__ import annotations

from collections.abc import Sequence

_REFERENCE = ("x_ref", "data_ref")
_NODE = ("target", "output_idx")
_COUNT = ("n", "nsim", "n_permutations")

#: Names of other packages by ours; of several of ours the first that a callable has is meant.
_OURS: dict[tuple[str, ...], str] = {
    ("data",): "inputs input x X samples instance instances images image data_row test_data",
    ("converter", "model"): "forward_func forward net network module estimator classifier explainer",
    _REFERENCE: "baselines baseline reference references ref background background_data masker",
    _NODE: "target targets class_idx class_index classes class_id index node neuron top_labels ranked_outputs",
    _COUNT: "n_steps steps num_steps m_steps n_samples nt_samples num_samples nsamples npermutations max_evals samples",
    ("batch_size",): "internal_batch_size nt_samples_batch_size perturbations_per_eval batchsize chunk_size",
    ("noise_level",): "stdevs stdev std sigma noise",
    ("times_input",): "multiply_by_inputs times_inputs grad_times_input multiply_by_input",
    ("seed",): "random_state random_seed rng generator",
    ("rule_name",): "composite rule rules canonizers lrp_rule",
    ("rule_param",): "epsilon alpha beta gamma eps",
    ("pred_fun",): "predict_fn predict f model_fn prediction_fn predict_proba",
    ("verbose",): "show_progress progress progress_bar silent",
    ("dtype",): "precision",
    ("input_dim",): "input_shape shape input_size example_inputs input_shapes",
    ("input_names",): "feature_names features column_names",
    ("output_names",): "class_names label_names",
    ("channels_first",): "channels_last data_format channel_first",
    ("aggr_channels",): "agg aggr aggregate aggregation outlier_perc",
    ("data_idx",): "idx row rows instance_idx",
    ("max_display",): "num_features top_k topk top",
    ("as_plotly",): "interactive plotly backend",
}
_BY_NAME = {name: ours for ours, names in _OURS.items() for name in names.split()}

#: Arguments of Converter that are often given to a method.
_OF_CONVERTER = ("input_dim", "input_names", "output_names", "device")
#: Arguments with no counterpart, and what to do instead.
_INSTEAD = {
    "return_convergence_delta": "every result has it, as 'result.residual'",
    "return_delta": "every result has it, as 'result.residual'",
    "additional_forward_args": "name these inputs in Converter(..., example=..., fixed=[...]), and give them with the "
    "data",
    "feature_mask": "features are explained one by one; Converter has 'group_columns' for the columns of a table",
    "layer": "the inputs of the model are explained; for those of a layer convert the part of the model behind it",
    "attribute_to_layer_input": "the value of a layer is explained; for its input name the layer before it",
    "attribute_to_neuron_input": "the value of a layer is explained; for its input name the layer before it",
    "nt_type": "SmoothGrad is the mean over noisy inputs; there is no other kind",
    "cmap": "change the picture: 'result.plot().figure'",
    "figsize": "change the picture: 'result.plot().figure.set_size_inches(...)'",
}


def what_it_is_here(name: str, known: Sequence[str]) -> str | None:
    """Say what an argument of another package is called here.

    Parameters
    ----------
    name : str
        The argument that a callable does not have.
    known : sequence of str
        Those that it has.

    Examples
    --------
    >>> what_it_is_here("baselines", ["data", "x_ref"])
    "it is called 'x_ref' here"
    >>> what_it_is_here("anything", ["data", "x_ref"])
    """
    if name in _INSTEAD:
        return _INSTEAD[name]
    ours = _BY_NAME.get(name, (name,))
    for own in ours:
        if own in known:
            return f"it is called '{own}' here"
    if ours[0] in _OF_CONVERTER and "converter" in known:
        return f"give it to Converter, as '{ours[0]}'"
    return None
