"""Multiplexed models; importing `muxplm` registers them with the Auto classes."""
