"""Seeing inside a network: what it looks for, how far it looks, and why it did what it did."""

from clearmark.inside.attribution import (
    Question,
    background,
    captum,
    deletion,
    integrated_gradients,
    occlusion,
    question,
)
from clearmark.inside.field import Field, decision, receptive_field
from clearmark.inside.findings import Findings, look, window
from clearmark.inside.layers import Activation, activations, first_filters, mosaic
from clearmark.inside.mark import fitted_mark, opacity_and_colour

__all__ = [
    "Activation",
    "Field",
    "Findings",
    "Question",
    "activations",
    "background",
    "captum",
    "decision",
    "deletion",
    "first_filters",
    "fitted_mark",
    "integrated_gradients",
    "look",
    "mosaic",
    "occlusion",
    "opacity_and_colour",
    "question",
    "receptive_field",
    "window",
]
