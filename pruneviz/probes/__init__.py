"""Probes: one file per quantity measured on a dense or masked network."""

from pruneviz.probes.agreement import Agreement, LayerAgreement, agreement
from pruneviz.probes.effective import EffectiveSparsity, LayerCounts, effective_sparsity
from pruneviz.probes.gradient_flow import GradientFlow, GraspPrediction, gradient_flow, grasp_prediction
from pruneviz.probes.recorder import FlowHistory, FlowRecorder

__all__ = [
    "Agreement",
    "EffectiveSparsity",
    "FlowHistory",
    "FlowRecorder",
    "GradientFlow",
    "GraspPrediction",
    "LayerAgreement",
    "LayerCounts",
    "agreement",
    "effective_sparsity",
    "gradient_flow",
    "grasp_prediction",
]
