"""Probes: one file per quantity measured on a dense or masked network."""

from pruneviz.probes.effective import EffectiveSparsity, LayerCounts, effective_sparsity
from pruneviz.probes.gradient_flow import GradientFlow, gradient_flow

__all__ = ["EffectiveSparsity", "GradientFlow", "LayerCounts", "effective_sparsity", "gradient_flow"]
