"""Row sums of per-sample weight gradients, without the gradients.

For a convolution with input x [B, I, H, W] and output gradient g [B, O, OH, OW], the gradient of
sample b's loss with respect to weight w of filter o is a sum over output positions. A profile needs
only the sum of its magnitudes over the weights of a filter,

    rowsum[b, o] = sum over (i, ky, kx) of | sum over (y, x) of g[b, o, y, x] * x_tap[b, i, y, x] |,

where x_tap is the input that tap (ky, kx) reads. The kernels finish that sum in registers, so that
nothing of the size [B, O, I * kh * kw] is ever stored; the inner sum is never split, since the
magnitude of a sum is not the sum of magnitudes.

Vocabulary: B samples, I and O input and output channels, H x W and OH x OW input and output maps.
`cpu` (a compiled library) and `gpu` (Triton) offer the same function; both are optional, and the
formulas of `products` in plain PyTorch stand in for them everywhere. `convolution` and
`pixelwise` run the other two products of a training step, forward and input gradient, in the same
compiled library; `finish` and `activations` are what happens to values between layers.
"""
