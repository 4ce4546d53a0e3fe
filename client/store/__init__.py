"""The local runtime store: images on this machine, unpacked and ready to mount, without a daemon.

A directory that several processes share. Locks are taken in one order: the collection lock shared; then
locks of layers and blobs, of which a process waits for one only while those that it holds are of layers that
come later, as unpacking.py says; then a transaction. Names come last: a blob, a layer or a tag is there
whole, or it is not there.
"""
