"""Text of someone else's mesh becomes a Mesh: App Mesh's definitions in five dialects.

Files go in; the mesh in our own form, with every leaf of the input accounted for, comes out. What
could not be carried over is a finding, never silence.
"""
