"""Scorers: one file per criterion, each a pure function from a problem to one score per prunable weight."""

from pruneviz.scorers.force import force
from pruneviz.scorers.grasp import grasp
from pruneviz.scorers.magnitude import magnitude
from pruneviz.scorers.ntk_sap import ntk_sap
from pruneviz.scorers.prospr import prospr
from pruneviz.scorers.random import random
from pruneviz.scorers.registry import Card, Scorer, Scores, check_options, register, score, scorers
from pruneviz.scorers.snip import snip
from pruneviz.scorers.synflow import synflow

__all__ = [
    "Card",
    "Scorer",
    "Scores",
    "check_options",
    "force",
    "grasp",
    "magnitude",
    "ntk_sap",
    "prospr",
    "random",
    "register",
    "score",
    "scorers",
    "snip",
    "synflow",
]
