"""Teaching students: training, losses, methods, experiments, what students can do. `ctd.distill(...)` teaches one."""

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """This package, which is also the function `ctd.distill`."""

    def __call__(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Teach one student: see `ctd.distill.export.distill`."""
        from ctd.distill.export import distill

        return distill(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
