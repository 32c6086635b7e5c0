"""The options that benchmarks on planted CIFAR-10 models share."""

import argparse
from pathlib import Path


def planted_parser(text: str | None) -> argparse.ArgumentParser:
    """Return a parser of where the images, the trained models and the results lie.

    Args:
        text: of the benchmark's module, whose first line describes it.
    """
    parser = argparse.ArgumentParser(description=(text or "").split("\n")[0])
    parser.add_argument("--cifar", type=Path, default=Path("../shared/cifar10"))
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache"))
    parser.add_argument("--json", type=Path, help="file of results")
    return parser
