"""MarkBench: a frozen test set, what is measured on it, and how the figures are reported."""

from clearmark.benchmark.frozen import BenchSample, MarkBench

__all__ = ["BenchSample", "MarkBench"]
