"""
A local MPS over real HTTP: text to speech, and storage of the audio. It needs no account.

``python -m airflow_provider_mps.emulator`` runs it; :class:`~.server.RunningEmulator` runs it inside a program. It
requires the extra ``emulator``.
"""
