"""Probes: one file per quantity measured on a dense or masked network."""

from pruneviz.probes.agreement import Agreement, LayerAgreement, agreement
from pruneviz.probes.alignment import NtkProjection, kernel_alignment, loss_residual, ntk_projection, one_hot_labels
from pruneviz.probes.descent import Descent, early_descent
from pruneviz.probes.effective import EffectiveSparsity, LayerCounts, effective_sparsity
from pruneviz.probes.gradient_flow import GradientFlow, GraspPrediction, gradient_flow, grasp_prediction
from pruneviz.probes.hessian import HessianSpectrum, hessian_spectrum
from pruneviz.probes.input_jacobian import JacobianSpectrum
from pruneviz.probes.moments import LayerSignal
from pruneviz.probes.ntk import NtkResult, ntk
from pruneviz.probes.ntk_density import SpectralDensity, spectral_density
from pruneviz.probes.ntk_top import NtkTop, ntk_top
from pruneviz.probes.recorder import FlowHistory, FlowRecorder
from pruneviz.probes.signal import SignalPropagation, signal_propagation
from pruneviz.probes.singular import OperatorSpectrum

__all__ = [
    "Agreement",
    "Descent",
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
    "NtkProjection",
    "NtkResult",
    "NtkTop",
    "OperatorSpectrum",
    "SignalPropagation",
    "SpectralDensity",
    "agreement",
    "early_descent",
    "effective_sparsity",
    "gradient_flow",
    "grasp_prediction",
    "hessian_spectrum",
    "kernel_alignment",
    "loss_residual",
    "ntk",
    "ntk_projection",
    "ntk_top",
    "one_hot_labels",
    "signal_propagation",
    "spectral_density",
]
