"""What an image's layers show together, read without a mount: `View`, and cat, ls, diff and cp on top.

Linux only; importing works anywhere.
"""
