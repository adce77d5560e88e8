"""Batches: a manifest in, audio and a result manifest out."""
