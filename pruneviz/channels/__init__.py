"""Whole channels: their scores, and networks that are really smaller without some of them."""

from pruneviz.channels.pruning import ChannelPruning, channel_scores, prune_channels

__all__ = ["ChannelPruning", "channel_scores", "prune_channels"]
