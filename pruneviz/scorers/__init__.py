"""Scorers: one file per criterion, each a pure function from a problem to one score per prunable weight."""

from pruneviz.scorers.grasp import grasp
from pruneviz.scorers.magnitude import magnitude
from pruneviz.scorers.prospr import prospr
from pruneviz.scorers.random import random
from pruneviz.scorers.registry import Card, Scorer, Scores, check_options, register, score, scorers
from pruneviz.scorers.snip import snip

__all__ = [
    "Card",
    "Scorer",
    "Scores",
    "check_options",
    "grasp",
    "magnitude",
    "prospr",
    "random",
    "register",
    "score",
    "scorers",
    "snip",
]
