"""Operators that submit texts to MPS and store the audio."""
