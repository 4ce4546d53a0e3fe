"""The admin API under /api/v1: accounts, rules and keys, for people and programs.

A row of `table.py` is a request: its method and path, who may send it, and the function that answers. The
function's annotations say the rest: `query` and `body` are the models that read them, the result's is the
answer's. The OpenAPI document is made from the same rows and models.
"""
