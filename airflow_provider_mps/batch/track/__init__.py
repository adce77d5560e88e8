"""Assemble the audio of a batch into one track, and write its subtitles."""
