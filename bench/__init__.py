"""Benchmarks: Aftercommit's own processes, and its peers beside it, on private servers of their own.

A *scenario* measures one thing and returns named figures; a *run* repeats the chosen scenarios in turn, so that
what is compared was measured alternately, under the same conditions. Every sample is kept, medians are reported.
"""
