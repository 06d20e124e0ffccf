"""Call C functions from compiled kernels, through addresses passed as arguments.

numba's own way to call C is ctypes functions as globals. It writes their addresses into the compiled code, which then
cannot be cached on disk. Here addresses arrive as ordinary numbers, so the kernels stay cacheable.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

LONG, INT = ir.IntType(64), ir.IntType(32)  # pointers travel as 64-bit integers


def c_function(result: ir.Type, arguments: list[ir.Type]) -> Callable[..., Any]:
    """Return a function for kernels that calls a C function of this type: `call(address, (arguments...))`.

    `address`, the arguments and the result are int64. Values of type INT are truncated to 32 bits on the way in and
    sign-extended on the way out.
    """

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.FunctionType(result, arguments).as_pointer())
        given = [builder.extract_value(values[1], place) for place in range(len(arguments))]
        narrowed = [builder.trunc(v, t) if t is INT else v for v, t in zip(given, arguments, strict=True)]
        return builder.sext(builder.call(pointer, narrowed), LONG) if result is INT else builder.call(pointer, narrowed)

    def call(typing_context: Any, address: Any, values: Any) -> Any:
        return types.int64(address, values), build

    made: Callable[..., Any] = intrinsic(call)
    return made
