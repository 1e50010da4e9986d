"""A local platform that speaks the Lamini API: for laptops and tests, on CPU, without an account.

``lamini-local serve`` runs it. Nothing else in the provider imports it.
"""
