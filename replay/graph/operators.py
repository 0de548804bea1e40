"""The operators a stored graph may use, by name, and the only strings each may be given.

A graph is untrusted input. What is not named here is refused: a whole namespace is never allowed, since ``aten`` itself
holds operators that open files (``from_file``), take over foreign memory (``set_``) or resize it. Named are operators
whose answer is a function of their arguments, those that write into a tensor the graph already has, and those that
draw from torch's seeded generator. To add one: it has no string argument outside a closed set, takes no storage,
stream, generator or custom object, does not read memory it was not given (``empty``, ``as_strided``), and is the public
form of its function: the inner ones (``_softmax``, ``native_…``) trust sizes that their callers have checked. The two
fused attention layers are here although they are inner ones, since inference runs them; they check their sizes, but not
those of a mask, which therefore they may not be given.
"""

from __future__ import annotations

import re

__all__ = ["EQUATION", "MODE_REGIONS", "NEVER_GIVEN", "OPERATORS", "STRING_ARGUMENTS", "ZEROED"]

_BY_PURPOSE = {
    "convolution": """
        conv1d.default conv1d.padding conv2d.default conv2d.padding conv3d.default conv3d.padding
        convolution.default conv_transpose1d.default conv_transpose2d.input conv_transpose3d.input
    """,
    "matrices": """
        linear.default matmul.default mm.default bmm.default addmm.default addbmm.default baddbmm.default
        mv.default dot.default einsum.default outer.default linalg_vector_norm.default norm.ScalarOpt_dim norm.Scalar
        norm.ScalarOpt_dim_dtype cdist.default bilinear.default cosine_similarity.default
        pairwise_distance.default
    """,
    "normalisation": """
        batch_norm.default layer_norm.default group_norm.default instance_norm.default rms_norm.default
    """,
    "activation": """
        relu.default relu_.default relu6.default relu6_.default hardtanh.default hardtanh_.default prelu.default
        leaky_relu.default leaky_relu_.default elu.default elu_.default selu.default selu_.default celu.default
        celu_.default gelu.default gelu_.default silu.default silu_.default mish.default mish_.default
        hardswish.default hardswish_.default hardsigmoid.default hardsigmoid_.default sigmoid.default
        sigmoid_.default tanh.default tanh_.default softplus.default threshold.default threshold_.default
        glu.default log_sigmoid.default hardshrink.default softshrink.default softmax.int log_softmax.int
    """,
    "pooling": """
        max_pool1d.default max_pool2d.default max_pool3d.default max_pool2d_with_indices.default
        avg_pool1d.default avg_pool2d.default avg_pool3d.default adaptive_avg_pool1d.default
        adaptive_avg_pool2d.default adaptive_avg_pool3d.default adaptive_max_pool1d.default
        adaptive_max_pool2d.default
    """,
    "attention, recurrence and embedding": """
        scaled_dot_product_attention.default _native_multi_head_attention.default
        _transformer_encoder_layer_fwd.default embedding.default lstm.input gru.input rnn_tanh.input
        rnn_relu.input lstm_cell.default gru_cell.default rnn_tanh_cell.default rnn_relu_cell.default
    """,
    "resampling and padding": """
        upsample_nearest1d.vec upsample_nearest2d.vec upsample_nearest3d.vec upsample_linear1d.vec
        upsample_bilinear2d.vec upsample_bicubic2d.vec upsample_trilinear3d.vec _upsample_nearest_exact2d.vec
        _upsample_bilinear2d_aa.vec _upsample_bicubic2d_aa.vec upsample_nearest2d.default
        upsample_bilinear2d.default upsample_bicubic2d.default grid_sampler.default
        affine_grid_generator.default pad.default constant_pad_nd.default reflection_pad1d.default
        reflection_pad2d.default replication_pad1d.default replication_pad2d.default pixel_shuffle.default
        pixel_unshuffle.default channel_shuffle.default im2col.default col2im.default
    """,
    "arithmetic": """
        add.Tensor add.Scalar add_.Tensor add_.Scalar sub.Tensor sub.Scalar sub_.Tensor sub_.Scalar rsub.Tensor
        rsub.Scalar mul.Tensor mul.Scalar mul_.Tensor mul_.Scalar div.Tensor div.Scalar div_.Tensor div_.Scalar
        div.Tensor_mode div.Scalar_mode div_.Tensor_mode floor_divide.default floor_divide.Scalar
        remainder.Tensor remainder.Scalar fmod.Tensor fmod.Scalar pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar
        square.default sqrt.default sqrt_.default rsqrt.default rsqrt_.default exp.default exp_.default
        exp2.default expm1.default log.default log1p.default log2.default log10.default neg.default neg_.default
        abs.default abs_.default reciprocal.default reciprocal_.default sign.default sin.default cos.default
        tan.default asin.default acos.default atan.default atan2.default sinh.default cosh.default erf.default
        floor.default ceil.default round.default round.decimals trunc.default frac.default clamp.default
        clamp.Tensor clamp_.default clamp_min.default clamp_min_.default clamp_max.default clamp_max_.default
        maximum.default minimum.default max.other min.other lerp.Scalar lerp.Tensor addcmul.default
        addcdiv.default nan_to_num.default logit.default hypot.default
    """,
    "comparison and choice": """
        eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar gt.Tensor gt.Scalar
        ge.Tensor ge.Scalar logical_and.default logical_or.default logical_not.default logical_xor.default
        bitwise_and.Tensor bitwise_and.Scalar bitwise_or.Tensor bitwise_or.Scalar bitwise_not.default
        bitwise_xor.Tensor isnan.default isinf.default isfinite.default where.self where.ScalarOther
        where.ScalarSelf where.Scalar masked_fill.Scalar masked_fill.Tensor masked_fill_.Scalar
        masked_fill_.Tensor
    """,
    "reduction": """
        sum.default sum.dim_IntList mean.default mean.dim prod.default prod.dim_int amax.default amin.default
        max.default max.dim min.default min.dim argmax.default argmin.default any.default any.dim all.default
        all.dim var.correction var.dim var.default var_mean.correction std.correction std.dim std.default
        logsumexp.default cumsum.default cumprod.default topk.default sort.default sort.stable argsort.default
        argsort.stable kthvalue.default median.default median.dim
    """,
    "shape": """
        view.default view_as.default reshape.default reshape_as.default _unsafe_view.default flatten.using_ints
        unflatten.int permute.default transpose.int t.default numpy_T.default mT.default movedim.int
        movedim.intlist unsqueeze.default unsqueeze_.default squeeze.default squeeze.dim squeeze.dims
        expand.default expand_as.default broadcast_to.default repeat.default tile.default
        repeat_interleave.self_int cat.default concat.default stack.default split.Tensor split.sizes
        split_with_sizes.default chunk.default tensor_split.sections unbind.int slice.Tensor select.int
        narrow.default unfold.default index_select.default index.Tensor gather.default scatter.src scatter.value
        take_along_dim.default flip.default roll.default diagonal.default diag_embed.default tril.default
        triu.default meshgrid.indexing atleast_1d.default real.default imag.default view_as_real.default
        view_as_complex.default
    """,
    "copies and types": """
        contiguous.default clone.default alias.default detach.default detach_.default lift_fresh.default
        lift_fresh_copy.default to.dtype to.dtype_layout to.device to.other _to_copy.default type_as.default
        copy_.default copy.default fill_.Scalar fill_.Tensor zero_.default index_put.default index_put_.default
    """,
    "factories": """
        zeros.default ones.default full.default arange.default arange.start arange.start_step linspace.default
        eye.default eye.m zeros_like.default ones_like.default full_like.default new_zeros.default
        new_ones.default new_full.default scalar_tensor.default one_hot.default
    """,
    "drawn from the seeded generator": """
        dropout.default dropout_.default feature_dropout.default feature_dropout_.default alpha_dropout.default
        feature_alpha_dropout.default rand_like.default randn_like.default bernoulli.default bernoulli.p
        rand.default randn.default
    """,
}

#: Every operator overload a graph may call.
OPERATORS = frozenset(f"aten.{name}" for names in _BY_PURPOSE.values() for name in names.split())

#: Regions with another gradient or autocast mode: their subgraphs are walked like the graph itself.
MODE_REGIONS = frozenset({"higher_order.wrap_with_set_grad_enabled", "higher_order.wrap_with_autocast"})

_ROUNDING = ("trunc", "floor")
_CONVOLUTION_PADDING = ("same", "valid")

#: The strings an operator's argument may be; any other string argument is refused.
STRING_ARGUMENTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("aten.gelu.default", "approximate"): ("none", "tanh"),
    ("aten.gelu_.default", "approximate"): ("none", "tanh"),
    ("aten.pad.default", "mode"): ("constant", "reflect", "replicate", "circular"),
    ("aten.div.Tensor_mode", "rounding_mode"): _ROUNDING,
    ("aten.div.Scalar_mode", "rounding_mode"): _ROUNDING,
    ("aten.div_.Tensor_mode", "rounding_mode"): _ROUNDING,
    ("aten.conv1d.padding", "padding"): _CONVOLUTION_PADDING,
    ("aten.conv2d.padding", "padding"): _CONVOLUTION_PADDING,
    ("aten.conv3d.padding", "padding"): _CONVOLUTION_PADDING,
    ("aten.meshgrid.indexing", "indexing"): ("ij", "xy"),
}

#: The one string that is not from a closed set: the equation of an Einstein sum, letters and commas.
EQUATION = re.compile(r"[A-Za-z ,.]{1,128}(->[A-Za-z .]{0,64})?")

#: Arguments that must be left out or None.
NEVER_GIVEN = frozenset(
    {
        ("aten._native_multi_head_attention.default", "mask"),
        ("aten._native_multi_head_attention.default", "mask_type"),
        ("aten._transformer_encoder_layer_fwd.default", "mask"),
        ("aten._transformer_encoder_layer_fwd.default", "mask_type"),
        ("aten.einsum.default", "path"),
        ("aten.bernoulli.default", "generator"),
        ("aten.bernoulli.p", "generator"),
    }
)

#: Operators that would show what the memory held before, and what is called in their place.
ZEROED = {
    "aten.empty_like.default": "aten.zeros_like.default",
    "aten.new_empty.default": "aten.new_zeros.default",
    "aten.empty.memory_format": "aten.zeros.default",
}
