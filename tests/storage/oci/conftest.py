from hypothesis import settings

# A deadline per example fails on a busy machine; pytest's timeout bounds the test.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
