"""What the mesh saw, straight from a log folder: no Spark, no Java, an answer in a second.

``read`` takes lines from files, ``collect`` makes records of them, ``evidence`` puts one run's
together, and ``stages`` is the program's side: it writes where the program is.
"""
