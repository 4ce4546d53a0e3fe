"""Layers to directories: decompressors, a tar reader and an extractor that trust no byte of a layer.

`layer.unpack_layer` and `layer.apply_layers` are the way in. Linux only; importing works anywhere.
"""
