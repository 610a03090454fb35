"""Probes: one file per quantity measured on a dense or masked network."""

from pruneviz.probes.agreement import Agreement, LayerAgreement, agreement
from pruneviz.probes.effective import EffectiveSparsity, LayerCounts, effective_sparsity
from pruneviz.probes.gradient_flow import GradientFlow, GraspPrediction, gradient_flow, grasp_prediction
from pruneviz.probes.hessian import HessianSpectrum, hessian_spectrum
from pruneviz.probes.input_jacobian import JacobianSpectrum
from pruneviz.probes.moments import LayerSignal
from pruneviz.probes.recorder import FlowHistory, FlowRecorder
from pruneviz.probes.signal import SignalPropagation, signal_propagation
from pruneviz.probes.singular import OperatorSpectrum

__all__ = [
    "Agreement",
    "EffectiveSparsity",
    "FlowHistory",
    "FlowRecorder",
    "GradientFlow",
    "GraspPrediction",
    "HessianSpectrum",
    "JacobianSpectrum",
    "LayerAgreement",
    "LayerCounts",
    "LayerSignal",
    "OperatorSpectrum",
    "SignalPropagation",
    "agreement",
    "effective_sparsity",
    "gradient_flow",
    "grasp_prediction",
    "hessian_spectrum",
    "signal_propagation",
]
