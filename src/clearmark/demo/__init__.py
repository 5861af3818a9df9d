"""The page to try Clearmark in a browser; extra ``[demo]``.

``removing`` and ``marking`` are what its two tabs do, ``page`` how they look, ``server`` how they
are served to this machine alone, with nothing left on it afterwards.
"""
