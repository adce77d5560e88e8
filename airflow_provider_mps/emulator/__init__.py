"""
A local MPS: text to speech and the audio's storage, spoken over real HTTP, without an account.

``python -m airflow_provider_mps.emulator`` runs it; :class:`~.server.RunningEmulator` runs it inside a program. It
needs the extra ``emulator``.
"""
