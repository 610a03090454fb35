"""Probes: one file per quantity measured on a dense or masked network."""

from pruneviz.probes.gradient_flow import GradientFlow, gradient_flow

__all__ = ["GradientFlow", "gradient_flow"]
