"""Calls to the MPS API: connection, credentials, client, actions, responses and retries."""
