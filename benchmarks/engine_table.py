"""The page of `benchmarks.engine`: its results as tables, goals beside the figures."""

from typing import Any

Figures = dict[str, Any]

MODELS = (
    "resnet18@64",
    "resnet18@224",
    "resnet50@224",
    "mobilenetv3_small_100@224",
    "convnext_atto@224",
    "vit_tiny_patch16_224@224",
)
GOALS = {
    "**the default**": (1.2, 1.1, 1.3, 1.3, 1.3, 1.6),
    "**without a compiler**": (0.65, 0.85, 0.94, 0.72, 1.0, 1.5),
}
"""Least throughput over the plain step's, of what `FINALS` names."""

FINALS = dict(zip(("kernels + parts", "torch + parts"), GOALS, strict=True))
"""The engine's last steps, and what they are called."""

MEMORY_GOAL, ERROR_GOAL, DOUBLE_GOAL = 1.05, 1e-5, 1e-10

WAYS = {
    "plain NCHW": "plain step, NCHW",
    "plain channels_last": "plain step, channels_last",
    "torch rows": "engine: row sums in pure torch",
    "torch": "... and faster library routes",
    "torch + fold": "... and folding",
    "torch + parts": "... and parts",
    "kernel rows": "engine: row sums by kernels, library routes",
    "kernels": "... and passes by kernels",
    "kernels + gates": "... and fused activations",
    "kernels + fold": "... and folding",
    "kernels + parts": "... and parts",
    "loop": "published loop (batch 1, create_graph)",
    "vmap": "torch.func vmap(grad)",
    "opacus": "Opacus GradSampleModule",
    "backpack": "BackPACK BatchGrad",
}
TITLES = {way: f"{FINALS[way]}: {name}" if way in FINALS else name for way, name in WAYS.items()}
"""Rows of the tables, the engine's last steps marked."""
OTHERS = ("loop", "vmap", "opacus", "backpack")

PEAK_GFLOPS = 118
"""Of a core of this processor in float32: one 512-bit multiply-add a cycle at 3.7 GHz."""
VIT_GMACS = 1.26
"""Multiply-adds of one forward pass of vit_tiny_patch16_224, attention included, in billions."""


def table(result: Figures) -> str:
    """Return the page in Markdown."""
    runs = [run for run in result["runs"] if not run["memory_kept"]]
    kept = [run for run in result["runs"] if run["memory_kept"]]
    parts = [_preface(result["machine"])]
    for threads in sorted({run["threads"] for run in runs}):
        of_model = {run["model"]: run for run in runs if run["threads"] == threads}
        parts.append(_of_threads(threads, of_model))
    if kept:
        parts.append(_of_kept_memory(kept))
    parts.append(_remarks_on_limits(result["machine"], runs))
    return "\n".join(parts)


def _preface(machine: Figures) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return f"""# The engine on a CPU: throughput, memory, error

    python -m benchmarks.engine         # one thread; writes results/engine.json and this page
    python -m benchmarks.engine --threads 2

Throughput in images per second over that of the faster plain step (eval mode, forward and backward
with batch-summed gradients of all weights) of the same batch and threads: medians over rounds, all
ways interleaved within each round. Random weights and BatchNorm statistics, random images, exact
float32; units are convolutions, for ViT linear layers. The ways of others run in the first round on
fewer images per call (loop 4, others 8; Opacus and BackPACK 2 for ResNet-50, whose gradients of one
image take 100 MB). Goals in brackets.

{machine["processor"]} (Zen 4), {machine["cores"]} cores, kernels for {machine["kernels"]}, idle
otherwise; {versions}.

The engine and the second plain step get the model in channels_last, as `load_model` gives it. The
rows of the engine are the steps of its way, the default last:

- *Row sums in pure torch*: each layer's input and output gradient become the row sums of the
  per-sample weight gradients, which are not kept. Those of a depthwise layer of many taps are a
  depthwise convolution too, with the gradient as its kernel. Forward passes and input gradients go
  as PyTorch chooses.
- *Faster library routes*: 1x1 convolutions go to oneDNN or, with few pixels, to a matrix product;
  input gradients of depthwise and 1x1 layers are convolutions with reversed weights.
- *Row sums by kernels*: compiled products whose magnitudes are summed in registers, 3x3 ones by
  Winograd's algorithm.
- *Passes by kernels*: forward pass and input gradient of wide 3x3 layers by Winograd's algorithm,
  which on small maps transforms weights as they are needed and never writes them; of 1x1 and linear
  layers where the compiled product is faster than the library's.
- *Fused activations*: the layer that computes the gradient of an activation's output multiplies
  the activation's derivative on, and adds the gradient of a residual branch, before it writes it;
  GELU, SiLU and Hardswish come with their derivatives from one pass.
- *Folding*: BatchNorms are absorbed by the convolutions before them.
- *Parts*: threads take parts of the batch through the whole pass, where every part uses the
  weights often enough: of the batches here, on two threads all but those of resnet18@64 and
  MobileNet. Where half a part would do, as for ViT, on one thread too, there are twice as many
  parts, one after another: that costs 1 to 3 % and takes half the memory.
"""


def _of_threads(threads: int, runs: dict[str, Figures]) -> str:
    """Return the tables of all models at one number of threads."""
    models = [model for model in MODELS if model in runs]
    missing = [model for model in MODELS if model not in runs]
    lines = [f"### {threads} thread{'s' if threads > 1 else ''}", ""]
    lines += ["**Throughput over the plain step**", ""]
    lines += _grid([f"{model} B{runs[model]['batch']}" for model in models])
    for way, title in TITLES.items():
        lines.append(_row(title, [_ratio(way, runs[model]) for model in models]))
    lines.append(_row("plain step, images/s", [_plain_rate(runs[model]) for model in models]))
    lines.append(_row("rounds", [_rounds(runs[model]) for model in models]))
    lines.append("")
    lines += [
        "**Peak memory of a step**, MiB, and over that of the faster plain step",
        "",
        *_grid(models),
        _row("plain step", [_memory(runs[m]["fastest_plain"], runs[m]) for m in models]),
    ]
    for way in FINALS:
        lines.append(_row(TITLES[way], [_memory(way, runs[model]) for model in models]))
    lines += ["", "**Relative Frobenius error** against the float64 reference", "", *_grid(models)]
    for way, title in {**TITLES, "float64": "engine in float64"}.items():
        if not way.startswith("plain"):
            lines.append(_row(title, [_error(way, runs[model]) for model in models]))
    remarks = _remarks(models, missing, runs)
    lines += ["", *remarks, ""] if remarks else [""]
    return "\n".join(lines)


def _of_kept_memory(runs: list[Figures]) -> str:
    """Return the table of what is left of the ratios where no step waits for memory."""
    lines = [_KEPT, *_grid(list(MODELS))]
    for threads in sorted({run["threads"] for run in runs}):
        of_model = {run["model"]: run for run in runs if run["threads"] == threads}
        for way, title in FINALS.items():
            cells = [_ratio(way, of_model[m]) if m in of_model else "–" for m in MODELS]
            lines.append(_row(f"{title}, {threads} thread{'s' if threads > 1 else ''}", cells))
    return "\n".join([*lines, ""])


_KEPT = """### With memory kept

    python -m benchmarks.engine --keep-memory --last-only --peers ""    # and --threads 2

The same throughput over the plain step's where neither gives freed memory back to the system, as
`failsearch index` has it (`indexer/allocation.py`). Most steps are faster then, a plain one, which
allocates more, by more than the engine's.
"""


def _grid(heads: list[str]) -> list[str]:
    return [_row("", heads), "|" + "---|" * (len(heads) + 1)]


def _row(title: str, cells: list[str]) -> str:
    return "| " + " | ".join([title, *cells]) + " |"


def _judged(figure: str, goal: str, met: bool) -> str:
    return f"{figure} ({goal}{'' if met else ', missed'})"


def _ratio(way: str, run: Figures) -> str:
    if way not in run["ratios"]:
        return "fails" if way in run["failures"] else "–"
    ratio = run["ratios"][way]
    if way not in FINALS:
        return f"{ratio:.2f}"
    goal = GOALS[FINALS[way]][MODELS.index(run["model"])]
    return _judged(f"{ratio:.2f}", f"≥ {goal}", ratio >= goal)


def _plain_rate(run: Figures) -> str:
    return f"{run['batch'] / run['medians'][run['fastest_plain']]:.1f}"


def _rounds(run: Figures) -> str:
    return str(len(run["seconds"]["kernels + parts"]))


def _memory(way: str, run: Figures) -> str:
    if way not in run["peak_bytes"]:
        return "–"
    peak, plain = run["peak_bytes"][way], run["peak_bytes"][run["fastest_plain"]]
    figure = f"{peak / 2**20:.0f}"
    if way == run["fastest_plain"]:
        return figure
    return _judged(f"{figure}: {peak / plain:.2f}", f"≤ {MEMORY_GOAL}", peak <= MEMORY_GOAL * plain)


def _error(way: str, run: Figures) -> str:
    if way not in run["errors"]:
        return "fails" if way in run["failures"] else "–"
    error = run["errors"][way]
    if way in OTHERS:
        return f"{error:.1e}"
    goal = DOUBLE_GOAL if way == "float64" else ERROR_GOAL
    return _judged(f"{error:.1e}", f"≤ {goal:.0e}", error <= goal)


def _remarks_on_limits(machine: Figures, runs: list[Figures]) -> str:
    """Return what keeps the models that stay behind where they are."""
    return f"""### What limits the models that stay behind

{_vit_arithmetic(machine, runs)}
- **ResNet-50.** Its 1x1 and strided layers, most of its multiplications, have no cheaper algorithm
  and run near the processor's peak; Winograd's reaches the thirteen 3x3 layers of stride 1 only.
  Masks of ReLUs and sums of residual gradients, written along with input gradients, save little.
  Two threads are held up where both read and write large maps. Parts of four images brought some
  hundredths in one run and cost some in another: two whole runs, at different hours, read 1.36
  and 1.20.
- **ConvNeXt and MobileNet**, which meet their goals or stay near them: they have no dense 3x3 layer
  of stride 1, and ConvNeXt has no BatchNorm to fold. Forward passes and input gradients are two
  thirds of the multiplications, and those of a plain step; what is gained comes from the weight
  gradients, from activations and from folding. On two threads, runs of nine rounds read 1.33, 1.20
  and 1.36 for MobileNet, and 1.30 and 1.36 for ConvNeXt.

Runs that are repeated differ by some hundredths, at times by a tenth. ViT shows how much: it has no
BatchNorm to fold, so that the row of folding and the one before it compute the same. Part of it are
page faults of the hundreds of megabytes that a step allocates, which depend on what the allocator
has kept, and those of a second thread come on top. Peaks of memory vary as much. A run gives each
model a process of its own. The ways of others keep the figures of the last run that they took part
in.

Opacus gives wrong values on ConvNeXt (see its error). Errors of ResNets: where float32 rounds an
activation's input to the other side of a kink than float64 does, filters move, most in deep
networks of random weights. The published loop is plain float32 autograd: its error is the floor
that float32 sets here. The float64 row is free of it.
"""


def _vit_arithmetic(machine: Figures, runs: list[Figures]) -> str:
    alone = [run for run in runs if run["model"] == MODELS[-1] and run["threads"] == 1]
    if not alone:
        return ""
    run = alone[0]
    work = 3 * 2 * VIT_GMACS * run["batch"]
    seconds = run["medians"][run["fastest_plain"]]
    measured = f"{work:.0f} GFLOP, and {seconds:.2f} s on one thread: {work / seconds:.0f} GFLOP/s"
    bound = f"{PEAK_GFLOPS * seconds / work:.2f}"
    return f"""- **ViT.** A plain step of {run["batch"]} images takes 3 products of {VIT_GMACS}
  billion multiply-adds an image, {measured}, everything else
  included. The core's peak is {PEAK_GFLOPS} GFLOP/s (one 512-bit multiply-add a cycle at 3.7 GHz),
  and torch's own matrix product reaches {machine["matmul_gflops"]:.0f}. With every product at the
  peak and all else free of charge, the ratio would be {bound}: the goal of 1.6 supposed products
  2.4 times as fast as torch's, which this processor cannot give. The engine needs the same products
  as the plain step, and there is no BatchNorm to fold."""


def _remarks(models: list[str], missing: list[str], runs: dict[str, Figures]) -> list[str]:
    """Return a list of what failed, and why, and of what was not measured."""
    lines = []
    for model in models:
        for way, reason in runs[model]["failures"].items():
            lines.append(f"- {way} fails on {model}: `{reason}`")
    if missing:
        lines.append(f"- Not measured here: {', '.join(missing)}.")
    return lines
