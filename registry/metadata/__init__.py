"""The SQL: a module a table family, a function a unit of work. No HTTP, no bytes of blobs.

Each function takes the Connection of the transaction (or read) it runs in as its first argument.
"""
