"""Campaigns that try to break what the package guarantees: ``lplr selftest``.

A file is one campaign: a generator ``campaign(scale, folder)`` of `Trial`, each of which is one
attempt to break a guarantee and how it went. It may write below ``folder``, which is empty and its
own, and nowhere else. It depends on the seed of ``scale`` alone, so that a failure can be seen
again. `lplr.selftest.run` lists the campaigns and runs them.

The campaigns need nothing but the package: no pytest, and no file of the tests.
"""
