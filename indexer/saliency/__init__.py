"""Per-sample saliency profiles: one forward and one backward pass for a whole batch.

Symbols of all docstrings in this package:

    B       images in a batch                 F       units (columns of a profile)
    C       classes                           E       length of an embedding
    O, I    output and input channels         G       groups of a convolution
    P       positions that share a weight: output pixels of a convolution, tokens of a linear layer
    K       taps of a kernel, kh * kw         J       weights of one unit, I / G * K
    x, g    input of a layer, and the gradient of the summed loss by its output

A profile holds, per unit, the mean over the unit's weights of |d CE(sample) / d weight| (Levin et
al., "Where do models go wrong? Parameter-space saliency maps", section 2.1). A *row sum* is that
mean before the division: for sample b and output channel o it is sum_j |sum_p g[b,o,p] x[b,j,p]|,
where x[b,j,p] is the input value that weight j meets at position p.

The data flow: `layout` says which weight is which column, `interception` sees every convolution
and linear layer while the model runs and takes x and g from it, `dispatch` picks the formula in
`products` (or a compiled kernel) that turns them into row sums, `tables` follows what a model
computes without the images, such as position biases, `folding` absorbs BatchNorms, `faults`
steps around kernels of PyTorch that go wrong, `engine` owns the pass from images to profiles, and
`reference` is the slow, obvious version that everything else is tested against.
"""
