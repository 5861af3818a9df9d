"""Clearmark: networks that remove visible watermarks from photos, and how they are trained."""

from importlib.metadata import version

__version__ = version("clearmark")
