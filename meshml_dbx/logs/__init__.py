"""What every writer of a log folder does alike: lock it, append, close files, say that it lives.

Sidecars and in-process recorders write here, so their files are read, closed and adopted by the
same rules. Between rooms and words: it knows the folder's names and no room.
"""
