"""The ATen operators that a layer ``Operator`` may run, and so all that a file can ask for.

Each computes tensors from tensors and does nothing else: it changes nothing that it is given, opens no file, draws
no random numbers, reads no memory that was never written, checks its own indices, and takes time in proportion to
what it is given. An operator that torch gains later is not among them until it is entered here.
"""

from __future__ import annotations

import re

#: Names with their overloads in brackets, where there is another than the nameless one: ``add(Scalar,Tensor)``.
_NAMES = """
    __and__(Scalar,Tensor) __lshift__(Scalar,Tensor) __or__(Scalar,Tensor) __rshift__(Scalar,Tensor)
    __xor__(Scalar,Tensor) _adaptive_avg_pool2d _adaptive_avg_pool3d _addmm_activation _cast_Byte _cast_Char
    _cast_Double _cast_Float _cast_Half _cast_Int _cast_Long _cast_Short _cdist_forward _conj _conj_physical
    _convolution(,deprecated)
    _convolution_mode _euclidean_dist _fft_c2c _fft_c2r _fft_r2c _fused_rms_norm _linalg_det _linalg_eigh
    _linalg_slogdet _linalg_solve_ex _linalg_svd _log_softmax _native_batch_norm_legit(no_stats)
    _native_batch_norm_legit_functional _native_batch_norm_legit_no_training _pad_circular _pad_enum _pdist_forward
    _prelu_kernel _reshape_alias _safe_softmax _softmax _to_copy _unsafe_view _upsample_bicubic2d_aa(,vec)
    _upsample_bilinear2d_aa(,vec) _upsample_nearest_exact1d(,vec) _upsample_nearest_exact2d(,vec)
    _upsample_nearest_exact3d(,vec) _weight_norm _weight_norm_interface abs absolute acos acosh adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    add(Scalar,Tensor) addbmm addcdiv addcmul addmm(,dtype) addmv addr adjoint affine_grid_generator alias
    alias_copy all(,dim,dims) amax amin aminmax angle any(,dim,dims) arccos arccosh arcsin arcsinh arctan arctan2
    arctanh argmax argmin argsort(,stable) argwhere as_strided as_strided_copy as_strided_scatter asin asinh atan
    atan2 atanh atleast_1d atleast_2d atleast_3d avg_pool1d avg_pool2d avg_pool3d baddbmm(,dtype) batch_norm
    bilinear binary_cross_entropy binary_cross_entropy_with_logits bincount bitwise_and(Scalar,Scalar_Tensor,Tensor)
    bitwise_left_shift(Scalar_Tensor,Tensor,Tensor_Scalar) bitwise_not bitwise_or(Scalar,Scalar_Tensor,Tensor)
    bitwise_right_shift(Scalar_Tensor,Tensor,Tensor_Scalar) bitwise_xor(Scalar,Scalar_Tensor,Tensor) block_diag
    bmm(,dtype) broadcast_tensors broadcast_to bucketize(Scalar,Tensor) cartesian_prod cat cdist ceil celu
    chain_matmul chalf channel_shuffle cholesky cholesky_inverse cholesky_solve chunk clamp(,Tensor)
    clamp_max(,Tensor) clamp_min(,Tensor) clip(,Tensor) clone col2im column_stack complex concat concatenate conj
    conj_physical constant_pad_nd contiguous conv1d(,padding) conv2d(,padding) conv3d(,padding) conv_transpose1d
    conv_transpose2d(input) conv_transpose3d(input) convolution copy copysign(Scalar,Tensor) corrcoef cos cosh
    cosine_embedding_loss cosine_similarity count_nonzero(,dim_IntList) cov cross cross_entropy_loss cummax cummin
    cumprod cumsum cumulative_trapezoid(dx,x) deg2rad det detach diag diag_embed diagflat diagonal diagonal_copy
    diagonal_scatter diff digamma dist div(Scalar,Scalar_mode,Tensor,Tensor_mode)
    divide(Scalar,Scalar_mode,Tensor,Tensor_mode) dot dstack einsum elu embedding eq(Scalar,Tensor) erf erfc erfinv
    exp exp2 expand expand_as expand_copy expm1 fft_fft fft_fft2 fft_fftn fft_fftshift fft_hfft fft_hfft2 fft_hfftn
    fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft fft_irfft2 fft_irfftn
    fft_rfft fft_rfft2 fft_rfftn fill(Scalar,Tensor) fix flatten(using_ints) flip fliplr flipud
    float_power(Scalar,Tensor_Scalar,Tensor_Tensor) floor floor_divide(,Scalar) fmax fmin fmod(Scalar,Tensor) frac
    frexp(Tensor) frobenius_norm(dim) full_like gather gcd ge(Scalar,Tensor) gelu ger glu greater(Scalar,Tensor)
    greater_equal(Scalar,Tensor) grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru_cell gt(Scalar,Tensor)
    hardshrink hardsigmoid hardswish hardtanh heaviside hinge_embedding_loss histc hstack huber_loss hypot i0 igamma
    igammac im2col imag index(Tensor) index_add index_copy index_fill(int_Scalar,int_Tensor) index_put index_reduce
    index_select inner instance_norm inverse isclose isfinite isin(Scalar_Tensor,Tensor_Scalar,Tensor_Tensor) isinf
    isnan isneginf isposinf isreal istft kl_div kron kthvalue l1_loss layer_norm lcm ldexp(Tensor) le(Scalar,Tensor)
    leaky_relu lerp(Scalar,Tensor) less(Scalar,Tensor) less_equal(Scalar,Tensor) lgamma lift_fresh lift_fresh_copy
    linalg_cholesky linalg_cholesky_ex linalg_cond(,p_str) linalg_cross linalg_det linalg_diagonal linalg_eig
    linalg_eigh linalg_eigvals linalg_eigvalsh linalg_inv linalg_inv_ex linalg_ldl_factor linalg_ldl_factor_ex
    linalg_lu linalg_lu_factor linalg_lu_factor_ex linalg_matmul linalg_matrix_exp linalg_matrix_norm(,str_ord)
    linalg_matrix_power linalg_matrix_rank(,atol_rtol_float,atol_rtol_tensor,tol_tensor) linalg_multi_dot
    linalg_norm(,ord_str) linalg_pinv(,atol_rtol_float,rcond_tensor) linalg_qr linalg_slogdet linalg_solve
    linalg_solve_ex linalg_solve_triangular linalg_svd linalg_svdvals linalg_tensorinv linalg_tensorsolve
    linalg_vander linalg_vecdot linalg_vector_norm linear linspace(Scalar_Tensor,Tensor_Scalar,Tensor_Tensor) log
    log10 log1p log2 log_sigmoid log_sigmoid_forward log_softmax(int) logaddexp logaddexp2 logcumsumexp logdet
    logical_and logical_not logical_or logical_xor logit logspace(Scalar_Tensor,Tensor_Scalar,Tensor_Tensor)
    logsumexp lstm_cell lt(Scalar,Tensor) mH mT margin_ranking_loss masked_fill(Scalar,Tensor) masked_scatter
    masked_select matmul matrix_H matrix_exp matrix_power max(,dim,other) max_pool1d max_pool1d_with_indices
    max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d maximum
    mean(,dim) median(,dim) meshgrid(,indexing) min(,dim,other) minimum mish mm(,dtype) mode moveaxis(int,intlist)
    movedim(int,intlist) mse_loss msort mul(Scalar,Tensor) multi_margin_loss multilabel_margin_loss
    multilabel_margin_loss_forward multiply(Scalar,Tensor) mv mvlgamma nan_to_num nanmean nanmedian(,dim)
    nanquantile(,scalar) nansum narrow(,Tensor) narrow_copy native_batch_norm native_group_norm native_layer_norm
    ne(Scalar,Tensor) neg negative new_full new_ones new_zeros nextafter nll_loss nll_loss2d nll_loss2d_forward
    nll_loss_forward nll_loss_nd nonzero nonzero_numpy nonzero_static
    norm(Scalar,ScalarOpt_dim,ScalarOpt_dim_dtype,ScalarOpt_dtype) norm_except_dim not_equal(Scalar,Tensor)
    nuclear_norm(,dim) numpy_T one_hot ones_like outer pad pad_sequence pairwise_distance pdist permute permute_copy
    pinverse pixel_shuffle pixel_unshuffle poisson_nll_loss polar polygamma positive
    pow(Scalar,Tensor_Scalar,Tensor_Tensor) prelu prod(,dim_int) qr quantile(,scalar) rad2deg ravel real reciprocal
    reflection_pad1d reflection_pad2d reflection_pad3d relu relu6 remainder(Scalar,Scalar_Tensor,Tensor) renorm
    repeat repeat_interleave(Tensor,self_Tensor,self_int) replication_pad1d replication_pad2d replication_pad3d
    reshape reshape_as resolve_conj resolve_neg rms_norm rnn_relu_cell rnn_tanh_cell roll rot90 round(,decimals)
    row_stack rsqrt rsub(Scalar,Tensor) scaled_dot_product_attention scatter(reduce,src,value,value_reduce)
    scatter_add scatter_reduce(two) searchsorted(Scalar,Tensor) select(int) select_scatter selu sgn sigmoid sign
    signbit silu sin sinc sinh slice(Tensor) slice_scatter slogdet smooth_l1_loss soft_margin_loss softmax(int)
    softplus softshrink sort(,stable) special_airy_ai special_bessel_j0 special_bessel_j1 special_bessel_y0
    special_bessel_y1 special_digamma special_entr special_erf special_erfc special_erfcx special_erfinv
    special_exp2 special_expit special_expm1 special_gammainc special_gammaincc special_gammaln special_i0
    special_i0e special_i1 special_i1e special_log1p special_log_ndtr special_log_softmax special_logit
    special_logsumexp special_modified_bessel_i0 special_modified_bessel_i1 special_modified_bessel_k0
    special_modified_bessel_k1 special_multigammaln special_ndtr special_ndtri special_polygamma special_psi
    special_round special_scaled_modified_bessel_k0 special_scaled_modified_bessel_k1 special_sinc special_softmax
    special_spherical_bessel_j0 special_xlog1py(,other_scalar,self_scalar) special_xlogy(,other_scalar,self_scalar)
    split(Tensor,sizes) split_with_sizes split_with_sizes_copy sqrt square squeeze(,dim,dims)
    squeeze_copy(,dim,dims) stack std(,correction,dim) std_mean(,correction,dim) stft(,center) sub(Scalar,Tensor)
    subtract(Scalar,Tensor) sum(,dim_IntList) svd swapaxes swapdims t t_copy take take_along_dim tan tanh
    tensor_split(indices,sections,tensor_indices_or_sections) tensordot threshold tile
    to(device,dtype,dtype_layout,other) topk trace transpose(int) transpose_copy(int) trapezoid(dx,x) trapz(dx,x)
    triangular_solve tril triplet_margin_loss triu true_divide(Scalar,Tensor) trunc type_as unbind(int)
    unbind_copy(int) unflatten(int) unfold unfold_copy unsafe_chunk unsafe_split(Tensor) unsafe_split_with_sizes
    unsqueeze unsqueeze_copy upsample_bicubic2d(,vec) upsample_bilinear2d(,vec) upsample_linear1d(,vec)
    upsample_nearest1d(,vec) upsample_nearest2d(,vec) upsample_nearest3d(,vec) upsample_trilinear3d(,vec) vander
    var(,correction,dim) var_mean(,correction,dim) vdot view view_as view_as_complex view_as_real view_copy vstack
    where(,Scalar,ScalarOther,ScalarSelf,self) xlogy(Scalar_Other,Scalar_Self,Tensor) zero zeros_like
"""


def _full_names(text: str) -> frozenset[str]:
    """Write out the overloads: ``aten::add.Scalar``, ``aten::add.Tensor``; the nameless one is ``aten::abs``."""
    names: set[str] = set()
    for name, overloads in re.findall(r"(\w+)(?:\(([\w,]*)\))?", text):
        names.update(f"aten::{name}.{overload}".rstrip(".") for overload in overloads.split(","))
    return frozenset(names)


#: Full names, such as ``aten::sort`` and ``aten::add.Tensor``.
OPERATORS = _full_names(_NAMES)
