"""Imported first where its folder is on the path of Python: takes a guard out of a module.

``LPLR_BROKEN`` is a JSON list of the module, and pairs of texts: the first one of each, which must
be in its source, becomes the second one.
"""

import json
import os
import sys
from importlib.machinery import PathFinder, SourceFileLoader

_MODULE, _CHANGES = json.loads(os.environ["LPLR_BROKEN"])


class _Loader(SourceFileLoader):
    def get_code(self, fullname):
        source = self.get_source(fullname)
        for old, new in _CHANGES:
            if source.count(old) != 1:
                raise SystemExit(f"{fullname} has this text {source.count(old)} times: {old}")
            source = source.replace(old, new)
        return compile(source, self.path, "exec")


class _Finder(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        spec = super().find_spec(fullname, path, target) if fullname == _MODULE else None
        if spec is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


sys.meta_path.insert(0, _Finder)
