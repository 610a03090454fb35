"""Probes: one file per quantity measured on a dense or masked network."""

from pruneviz.probes.agreement import Agreement, LayerAgreement, agreement
from pruneviz.probes.effective import EffectiveSparsity, LayerCounts, effective_sparsity
from pruneviz.probes.gradient_flow import GradientFlow, gradient_flow

__all__ = [
    "Agreement",
    "EffectiveSparsity",
    "GradientFlow",
    "LayerAgreement",
    "LayerCounts",
    "agreement",
    "effective_sparsity",
    "gradient_flow",
]
