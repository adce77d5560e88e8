"""Ten thousand lines in one task: a manifest in, audio and a result manifest out."""
